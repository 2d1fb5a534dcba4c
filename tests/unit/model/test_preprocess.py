"""Preprocessing is the geometry of a reference library, in uint8, in buffers that are reused."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edge_runtime.model.manifest import InputSpec
from edge_runtime.model.preprocess import Preprocessor

PHOTOGRAPH = Path(importlib.util.find_spec("skimage").origin).parent / "data" / "chelsea.png"  # type: ignore


def spec(**changes: object) -> InputSpec:
    values = {
        "name": "x",
        "layout": "NHWC",
        "size": (192, 192),
        "resize": "squash",
        "modalities": ("rgb",),
    }
    return InputSpec(**{**values, **changes})  # type: ignore[arg-type]


@pytest.mark.parametrize("size", [(451, 300), (640, 480), (1280, 720), (200, 200), (100, 80)])
def test_it_matches_pillow_on_a_real_photograph(size: tuple[int, int]):
    picture = Image.open(PHOTOGRAPH).convert("RGB").resize(size, Image.Resampling.LANCZOS)
    reference = np.asarray(picture.resize((192, 192), Image.Resampling.BILINEAR), np.float32)
    bgr = np.ascontiguousarray(np.asarray(picture)[..., ::-1])
    got = Preprocessor(spec())(bgr)[0].astype(np.float32)
    error = np.abs(got - reference)
    # Pillow's bilinear is a wide antialiasing filter, ours is 2x2 means and one linear step: the
    # same picture, not the same arithmetic. A wrong channel order, half-pixel shift or missing
    # low-pass fails this by far.
    assert error.mean() < 3.0
    assert np.corrcoef(got.ravel(), reference.ravel())[0, 1] > 0.995


def test_channels_come_out_as_rgb():
    red = np.zeros((300, 400, 3), np.uint8)
    red[..., 2] = 200  # BGR
    assert Preprocessor(spec())(red)[0, 50, 50].tolist() == [200, 0, 0]


def test_nchw_is_nhwc_transposed():
    picture = np.random.default_rng(0).integers(0, 255, (300, 400, 3), np.uint8)
    nhwc, nchw = Preprocessor(spec())(picture), Preprocessor(spec(layout="NCHW"))(picture)
    assert nchw.shape == (1, 3, 192, 192)
    np.testing.assert_array_equal(nchw[0].transpose(1, 2, 0), nhwc[0])


def test_crop_keeps_the_centre_and_squash_keeps_all():
    picture = np.zeros((100, 300, 3), np.uint8)
    picture[:, 100:200] = 255
    assert Preprocessor(spec(resize="crop"))(picture).min() == 255
    assert Preprocessor(spec())(picture).min() == 0


def test_grey_frames_become_three_equal_channels():
    grey = np.random.default_rng(0).integers(0, 255, (240, 320), np.uint8)
    got = Preprocessor(spec())(grey)[0]
    np.testing.assert_array_equal(got[..., 0], got[..., 2])


def test_the_hot_path_returns_the_same_buffer_every_time():
    preprocess = Preprocessor(spec())
    frame = np.zeros((480, 640, 3), np.uint8)
    assert preprocess(frame) is preprocess(frame)


def test_pictures_of_every_size_do_not_fill_the_memory():
    preprocess = Preprocessor(spec(size=(32, 32)))
    for side in range(64, 164):
        preprocess(np.zeros((side, side, 3), np.uint8))
    assert len(preprocess._buffers) <= 20
