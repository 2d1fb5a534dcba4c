"""A manifest that makes no sense is refused in one line, field by field and size by size."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from edge_runtime.errors import BundleError
from edge_runtime.model.manifest import Manifest, parse_manifest, version_tuple


def parse(raw: object) -> Manifest:
    return parse_manifest(json.dumps(raw).encode(), "manifest.json")


@pytest.fixture
def raw(tiny_bundle: Path) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((tiny_bundle / "manifest.json").read_text())
    return loaded


def test_a_good_manifest_is_read(raw: dict[str, Any]):
    manifest = parse(raw)

    assert manifest.id == "tiny-1.0.0"
    assert manifest.input.shape == (1, 32, 32, 3)
    assert manifest.threshold == 0.35
    assert manifest.raw == raw


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"schema": "edge-label-bundle/9"}, "schema"),
        ({"minimum_runtime": "99.0"}, "upgrade edge-label"),
        ({"minimum_runtime": "9" * 5000}, "reinstall"),
        ({"minimum_runtime": "new"}, "is not a version"),
        ({"name": "../x"}, "not a plain name"),
        ({"name": "x" * 65}, "not a plain name"),
        ({"logit_scale": -1}, "logit_scale"),
        ({"logit_scale": 1001}, "logit_scale"),
        ({"logit_scale": math.nan}, "NaN is not a number"),
        ({"threshold": 1.1}, "threshold"),
        ({"templates": ["no hole"]}, "template"),
        ({"templates": []}, "template"),
        ({"files": {}}, "not among its files"),
        ({"files": {"../x": {"sha256": "", "size": 1}}}, "points outside"),
        ({"files": {"/x": {"sha256": "", "size": 1}}}, "points outside"),
        ({"files": {"a\\b": {"sha256": "", "size": 1}}}, "points outside"),
        ({"files": {"x": {"sha256": "", "size": (512 << 20) + 1}}}, "size of x"),
        ({"files": {"x": {"sha256": "", "size": True}}}, "size of x"),
        ({"input": {}}, "is missing"),
        ({"embedding": None}, "reinstall"),
        ({"embedding": {"name": "embedding", "dim": math.inf}}, "Infinity is not a number"),
        ({"embedding": {"name": "embedding", "dim": 4097}}, "from 1 to 4096"),
    ],
)
def test_a_manifest_that_makes_no_sense_is_refused(
    raw: dict[str, Any], change: dict[str, object], message: str
):
    with pytest.raises(BundleError) as error:
        parse({**raw, **change})

    assert message in str(error.value)
    assert str(error.value).startswith("manifest.json: ")


@pytest.mark.parametrize(
    "change",
    [
        {"layout": "HWC"},
        {"dtype": "float32"},
        {"resize": "?"},
        {"size": [15, 32]},
        {"size": [32, 1025]},
        {"modalities": ["x"]},
        {"modalities": []},
    ],
)
def test_an_input_the_runtime_cannot_make_is_refused(
    raw: dict[str, Any], change: dict[str, object]
):
    raw["input"].update(change)

    with pytest.raises(BundleError, match="input"):
        parse(raw)


@pytest.mark.parametrize("data", [b"", b"[]", b"null", b"{", b"[" * 100_000, b"\xff\xfe"])
def test_bytes_that_are_no_manifest_are_one_line(data: bytes):
    with pytest.raises(BundleError, match=r"manifest\.json: "):
        parse_manifest(data, "manifest.json")


def test_versions_sort_as_numbers():
    assert version_tuple("1.10.0") > version_tuple("1.9.3-rc1")
    assert version_tuple("x") == (0,)
