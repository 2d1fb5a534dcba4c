"""A bundle says which views are strange, or nothing; what does not fit it is refused."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest

from edge_runtime.errors import BundleError
from edge_runtime.model.bundle import load_bundle
from edge_runtime.model.strange import StrangeViews
from tests.tiny import DIM, encoder_onnx, npy_bytes, write_tiny_bundle

DIRECTION = np.eye(1, DIM, dtype=np.float16)


OURS = hashlib.sha256(encoder_onnx()).hexdigest()


def strange(
    folder: Path, limit: object = 0.5, encoder: str = OURS, **files: bytes
) -> StrangeViews | None:
    write_tiny_bundle(folder, {"strange_views": {"limit": limit, "encoder": encoder}}, **files)
    return StrangeViews.from_bundle(load_bundle(folder))


def test_a_view_beyond_the_limit_is_strange(tmp_path: Path):
    is_strange = strange(tmp_path, strange_view__dot__npy=npy_bytes(DIRECTION))
    embedding = np.zeros(DIM, np.float32)
    for cosine in (-1.0, 0.0, 0.49, 0.51, 1.0):
        embedding[0] = cosine
        assert is_strange(embedding, 50.0) is (cosine > 0.5)


def test_a_dull_picture_is_strange_sooner_than_one_of_contrast(tmp_path: Path):
    views = {"limit": 0.0, "contrast": -0.1, "encoder": OURS}
    folder = write_tiny_bundle(
        tmp_path, {"strange_views": views}, strange_view__dot__npy=npy_bytes(DIRECTION)
    )
    is_strange = StrangeViews.from_bundle(load_bundle(folder))
    embedding = np.zeros(DIM, np.float32)
    embedding[0] = 0.3
    assert is_strange(embedding, 0.0)
    assert is_strange(embedding, 10.0)
    assert not is_strange(embedding, 50.0)


def test_numbers_that_are_none_are_not_strange_but_invalid(tmp_path: Path):
    is_strange = strange(tmp_path, strange_view__dot__npy=npy_bytes(DIRECTION))
    assert is_strange(np.full(DIM, np.nan, np.float32), 50.0) is False


def test_a_bundle_without_a_direction_refuses_nothing(tiny_bundle: Path):
    assert StrangeViews.from_bundle(load_bundle(tiny_bundle)) is None


@pytest.mark.parametrize("limit", [20, -20, "0.5", None, True, float("nan")])
def test_a_limit_that_makes_no_sense_is_one_line(tmp_path: Path, limit: object):
    with pytest.raises(BundleError) as error:
        strange(tmp_path, limit, strange_view__dot__npy=npy_bytes(DIRECTION))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (np.eye(1, 8, dtype=np.float16), "shape (1, 8) is not (1, 16)"),
        (np.eye(2, DIM, dtype=np.float16), "shape (2, 16) is not (1, 16)"),
        (3 * DIRECTION, "row 0 has norm 3, not 1"),
    ],
)
def test_a_direction_of_another_bundle_is_refused(tmp_path: Path, rows: np.ndarray, message: str):
    with pytest.raises(BundleError) as error:
        strange(tmp_path, strange_view__dot__npy=npy_bytes(rows))
    assert message in str(error.value)


def test_a_direction_for_another_encoder_is_refused(tmp_path: Path):
    with pytest.raises(BundleError) as error:
        strange(tmp_path, encoder="0" * 64, strange_view__dot__npy=npy_bytes(DIRECTION))
    assert "fitted for another encoder" in str(error.value)


def test_a_limit_without_its_direction_is_one_line(tmp_path: Path):
    with pytest.raises(BundleError) as error:
        strange(tmp_path)
    assert "the manifest has no 'strange_view.npy'" in str(error.value)
