"""Whatever bytes come in, the answer is a value or one printable line, within two seconds.

A fast sample in every test run; ``make fuzz`` runs 10,000 cases a surface (EDGE_LABEL_FUZZ=10000).
"""

from __future__ import annotations

import io
import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edge_runtime.camera.decode import decode
from edge_runtime.camera.jpeg import JpegEncoder
from edge_runtime.camera.splitter import JpegSplitter
from edge_runtime.config import Config
from edge_runtime.errors import EdgeLabelError
from edge_runtime.model.bundle import load_bundle
from edge_runtime.model.labels.label_set import parse_label_set
from edge_runtime.model.labels.text_bank import TextBank
from edge_runtime.model.npy import read_embeddings
from edge_runtime.model.onnx_bytes import refuse_external_data
from edge_runtime.model.store.archive import unpack
from edge_runtime.records import Frame
from edge_runtime.system import strict_yaml
from tests.daemon import REPOSITORY
from tests.doubles.mjpeg_camera import jpegs
from tests.tiny import encoder_onnx, npy_bytes, text_rows, write_tiny_bundle

CASES = int(os.environ.get("EDGE_LABEL_FUZZ", "100"))
fuzz = settings(
    max_examples=CASES,
    # The two seconds are checked in processor time, which a busy machine does not change.
    deadline=None,
    suppress_health_check=[
        HealthCheck.too_slow,
        HealthCheck.data_too_large,
        HealthCheck.function_scoped_fixture,
    ],
    database=None,
    print_blob=True,
)

EDIT = st.tuples(
    st.floats(0, 1),
    st.sampled_from(["flip", "cut", "insert", "repeat", "drop"]),
    st.binary(min_size=1, max_size=16),
)


def edited(seed: bytes) -> st.SearchStrategy[bytes]:
    """``seed`` with bytes changed, cut off, inserted, repeated or dropped; sometimes any bytes."""

    def apply(edits: list[tuple[float, str, bytes]]) -> bytes:
        data = seed
        for where, what, piece in edits:
            at = int(where * len(data))
            if what == "flip":
                data = data[:at] + piece + data[at + len(piece) :]
            elif what == "cut":
                data = data[:at]
            elif what == "insert":
                data = data[:at] + piece + data[at:]
            elif what == "repeat":
                data = data[: at + 64] + data[at:]
            else:
                data = data[:at] + data[at + len(piece) :]
        return data

    return st.one_of(st.lists(EDIT, min_size=1, max_size=6).map(apply), st.binary(max_size=400))


SCALAR = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=30))


def trees(keys: list[str]) -> st.SearchStrategy[Any]:
    """Nested values under keys that are mostly the right ones."""
    key = st.one_of(st.sampled_from(keys), st.text(max_size=8))
    return st.recursive(
        SCALAR,
        lambda node: st.one_of(st.lists(node, max_size=4), st.dictionaries(key, node, max_size=5)),
        max_leaves=25,
    )


def one_line_or_fine(call: Callable[[], object]) -> None:
    """The promise itself."""
    start = time.process_time()
    line = "fine"
    code = 78
    try:
        call()
    except EdgeLabelError as error:
        line = str(error)
        code = error.exit_code

    assert code in (65, 66, 78)
    assert time.process_time() - start < 2
    assert line
    assert line.isprintable()
    assert len(line) < 2000


CONFIG_KEYS = [
    "camera",
    "model",
    "output",
    "privacy",
    "masks",
    "source",
    "width",
    "fps",
    "labels",
    "mqtt",
    "host",
]
LABEL_KEYS = ["labels", "name", "prompts", "threshold", "group", "background", "templates"]
LABELS = (
    b"labels:\n  - name: red\n    prompts: [a red car, 'x']\n    threshold: 0.5\n    group: g\n"
    b"background: [nothing]\n"
)


def as_text(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape")


@pytest.mark.fault("G1")
@fuzz
@given(edited((REPOSITORY / "systemd" / "edge-label.yaml").read_bytes()))
def test_config_bytes(data: bytes):
    one_line_or_fine(lambda: strict_yaml.parse(as_text(data), "c.yaml", Config))


@pytest.mark.fault("G1")
@fuzz
@given(trees(CONFIG_KEYS))
def test_config_trees(tree: Any):
    one_line_or_fine(
        lambda: strict_yaml.parse(yaml.safe_dump(tree, allow_unicode=True), "c.yaml", Config)
    )


@pytest.mark.fault("G1")
@fuzz
@given(edited(LABELS))
def test_label_set_bytes(data: bytes):
    one_line_or_fine(lambda: parse_label_set(as_text(data), "labels.yaml"))


@pytest.mark.fault("G1")
@fuzz
@given(trees(LABEL_KEYS))
def test_label_set_trees(tree: Any):
    one_line_or_fine(
        lambda: parse_label_set(yaml.safe_dump(tree, allow_unicode=True), "labels.yaml")
    )


@pytest.fixture(scope="module")
def bundle() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as folder:
        yield write_tiny_bundle(Path(folder) / "tiny")


MANIFEST_KEYS = [
    "schema",
    "name",
    "version",
    "files",
    "input",
    "embedding",
    "size",
    "sha256",
    "layout",
    "templates",
]


def load(path: Path) -> None:
    loaded = load_bundle(path)
    loaded.verify()
    TextBank.from_bundle(loaded)


def test_manifest_bytes(bundle: Path):
    good = (bundle / "manifest.json").read_bytes()

    @fuzz
    @given(edited(good))
    def run(data: bytes) -> None:
        (bundle / "manifest.json").write_bytes(data)
        one_line_or_fine(lambda: load(bundle))

    try:
        run()
    finally:
        (bundle / "manifest.json").write_bytes(good)


def test_manifest_trees(bundle: Path):
    good = (bundle / "manifest.json").read_bytes()
    raw = json.loads(good)

    @fuzz
    @given(st.sampled_from(sorted(raw)), trees(MANIFEST_KEYS))
    def run(key: str, value: Any) -> None:
        (bundle / "manifest.json").write_text(json.dumps({**raw, key: value}))
        one_line_or_fine(lambda: load(bundle))

    try:
        run()
    finally:
        (bundle / "manifest.json").write_bytes(good)


@pytest.mark.fault("M7")
@fuzz
@given(edited(npy_bytes(text_rows().astype(np.float16))))
def test_npy_bytes(data: bytes):
    one_line_or_fine(lambda: read_embeddings(data, "bank.npy"))


@pytest.mark.fault("M6", "M7")
@fuzz
@given(
    st.one_of(
        st.text(max_size=80),
        st.builds(
            "{{'descr': {}, 'fortran_order': {}, 'shape': {}}}".format,
            st.sampled_from(
                ["'<f2'", "'<f4'", "'|O'", "'<f8'", "[('a','<f2')]", "'>f2'", "''", "1"]
            ),
            st.sampled_from(["True", "False", "0", "[]"]),
            st.one_of(
                st.lists(st.integers(-(2**70), 2**70), max_size=4).map(tuple).map(str),
                st.text(max_size=12),
            ),
        ),
    ),
    st.sampled_from([(1, 0), (2, 0), (3, 0), (9, 9)]),
)
def test_npy_headers(header: str, version: tuple[int, int]):
    raw = header.encode("utf-8", "replace") + b"\n"
    length = len(raw).to_bytes(2 if version == (1, 0) else 4, "little")
    one_line_or_fine(
        lambda: read_embeddings(
            b"\x93NUMPY" + bytes(version) + length + raw + bytes(64), "bank.npy"
        )
    )


@pytest.mark.fault("M1")
@fuzz
@given(edited(encoder_onnx()))
def test_onnx_bytes(data: bytes):
    one_line_or_fine(lambda: refuse_external_data(data, "encoder.onnx"))


SMALL_JPEG = jpegs(1, (160, 120))[0]
PROGRESSIVE = cv2.imencode(
    ".jpg", np.zeros((120, 160, 3), np.uint8), [cv2.IMWRITE_JPEG_PROGRESSIVE, 1]
)[1].tobytes()


@pytest.mark.fault("C6")
@fuzz
@given(st.one_of(edited(SMALL_JPEG), edited(PROGRESSIVE)))
def test_jpeg_framing(data: bytes):
    frame = Frame(np.frombuffer(data, np.uint8), "mjpg", 0.0, 0.0)
    one_line_or_fine(lambda: decode(frame, (96, 96)))
    one_line_or_fine(lambda: JpegEncoder()(frame))


def split(stream: bytes, block: int) -> list[bytes]:
    """The pictures in a stream of which ``block`` bytes come at a time."""
    splitter = JpegSplitter()
    pictures = []
    for at in range(0, len(stream), block):
        pictures += [picture.tobytes() for picture in splitter.feed(stream[at : at + block])]
    assert len(splitter._buffer) <= len(stream)
    return pictures


@pytest.mark.fault("C20")
@fuzz
@given(st.one_of(edited(SMALL_JPEG * 3), edited(PROGRESSIVE)), st.integers(64, 70_000))
def test_jpeg_streams(damaged: bytes, block: int):
    """However a stream is cut, the same pictures come out, and those behind the damage are whole.

    Behind it come more than 64 kB of whole pictures, for a damaged length can hide so many.
    """
    stream = damaged + SMALL_JPEG * (2 + 70_000 // len(SMALL_JPEG))
    pictures: list[list[bytes]] = []
    one_line_or_fine(lambda: pictures.append(split(stream, block)))
    assert pictures[0] == split(stream, len(stream))
    assert pictures[0][-1] == SMALL_JPEG


@pytest.mark.fault("C6")
@fuzz
@given(st.integers(0, 65535), st.integers(0, 65535))
def test_jpeg_sizes(height: int, width: int):
    """A header that promises up to four gigapixels."""
    at = SMALL_JPEG.index(b"\xff\xc0") + 5
    data = (
        SMALL_JPEG[:at]
        + height.to_bytes(2, "big")
        + width.to_bytes(2, "big")
        + SMALL_JPEG[at + 4 :]
    )
    one_line_or_fine(
        lambda: decode(Frame(np.frombuffer(data, np.uint8), "mjpg", 0.0, 0.0), (96, 96))
    )


def _tar() -> bytes:
    import tarfile

    stream = io.BytesIO()
    with tempfile.TemporaryDirectory() as folder, tarfile.open(fileobj=stream, mode="w") as tar:
        tar.add(write_tiny_bundle(Path(folder) / "tiny"), arcname="tiny")
    return stream.getvalue()


@pytest.mark.fault("M9")
@fuzz
@given(edited(_tar()))
def test_archives(data: bytes):
    with tempfile.TemporaryDirectory() as folder:
        archive = Path(folder) / "b.tar"
        archive.write_bytes(data)
        into = Path(folder) / "in" / "to"
        into.parent.mkdir()
        one_line_or_fine(lambda: unpack(archive, into))
        assert {path.name for path in Path(folder).iterdir()} == {"b.tar", "in"}, (
            "something got out"
        )
        assert {path.name for path in into.parent.iterdir()} <= {"to"}, "something got out"
        shutil.rmtree(into, ignore_errors=True)
