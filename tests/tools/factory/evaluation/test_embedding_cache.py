"""A picture is encoded once for a bundle, and never by the memory of another."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edge_runtime.model.bundle import load_bundle
from edge_runtime.model.encoder import Encoder
from edge_runtime.model.preprocess import Preprocessor
from tests.tiny import encoder_onnx, write_tiny_bundle
from tools.factory.evaluation.embedding_cache import CachedEncoder

PICTURES = list(np.random.default_rng(0).integers(0, 256, (5, 40, 60, 3), np.uint8))


def test_what_was_encoded_is_read_back_and_not_computed(
    tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = load_bundle(tiny_bundle)
    prepare, encode = Preprocessor(bundle.manifest.input), Encoder(bundle)
    expected = [encode(prepare(picture)) for picture in PICTURES]
    with CachedEncoder(bundle, tmp_path) as cached:
        np.testing.assert_array_equal([cached(picture) for picture in PICTURES], expected)
    monkeypatch.setattr(Encoder, "__call__", lambda *_: pytest.fail("encoded again"))
    with CachedEncoder(bundle, tmp_path) as cached:
        np.testing.assert_array_equal(
            [cached(picture) for picture in reversed(PICTURES)], expected[::-1]
        )


def test_rows_of_another_encoder_or_another_shape_are_not_taken(
    tiny_bundle: Path, tmp_path: Path
) -> None:
    bundle = load_bundle(tiny_bundle)
    turned = PICTURES[0].reshape(60, 40, 3)  # the same bytes, another picture
    with CachedEncoder(bundle, tmp_path) as cached:
        cached(PICTURES[0])
        cached(turned)
    encoder = encoder_onnx(shape=(1, 16, 16, 3))
    small = {"layout": "NHWC", "dtype": "uint8", "name": "pixels", "mean": [0] * 3, "std": [1] * 3}
    manifest = {"input": small | {"size": [16, 16], "resize": "squash", "modalities": ["rgb"]}}
    other = load_bundle(write_tiny_bundle(tmp_path / "other", manifest, encoder__dot__onnx=encoder))
    with CachedEncoder(other, tmp_path) as cached:
        cached(PICTURES[0])
    assert sorted(len(np.load(file)["keys"]) for file in tmp_path.glob("*.npz")) == [1, 2]


def test_a_damaged_cache_is_made_again(tiny_bundle: Path, tmp_path: Path) -> None:
    with CachedEncoder(load_bundle(tiny_bundle), tmp_path) as cached:
        first = cached(PICTURES[0])
    file = next(tmp_path.glob("*.npz"))
    file.write_bytes(file.read_bytes()[:100])
    with CachedEncoder(load_bundle(tiny_bundle), tmp_path) as cached:
        np.testing.assert_array_equal(cached(PICTURES[0]), first)
    with CachedEncoder(load_bundle(tiny_bundle), tmp_path) as cached:
        np.testing.assert_array_equal(cached(PICTURES[0]), first)
