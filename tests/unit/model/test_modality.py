"""Infrared and depth become 8-bit pictures, or one line says what is wrong with them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from edge_runtime.errors import ConfigError, DataError
from edge_runtime.model.bundle import load_bundle
from edge_runtime.model.manifest import InputSpec, Manifest
from edge_runtime.model.modality import check_trained, grey_levels, resolve
from edge_runtime.model.preprocess import Preprocessor
from tests.tiny import tiny_input, write_tiny_bundle

COLOUR = np.zeros((8, 8, 3), np.uint8)
GREY = np.zeros((8, 8), np.uint8)
DEEP = np.zeros((8, 8), np.uint16)
FLOAT = np.zeros((8, 8), np.float32)


def manifest(tmp_path: Path, *modalities: str) -> Manifest:
    bundle = write_tiny_bundle(tmp_path / "b", {"input": tiny_input(*modalities)})
    return load_bundle(bundle).manifest


def ramp() -> np.ndarray:
    """Depth from 500 to 4500 mm, left to right."""
    return np.tile(np.linspace(500, 4500, 64).astype(np.uint16), (48, 1))


def test_depth_without_any_reading_is_black():
    for nothing in (0, 65535):
        np.testing.assert_array_equal(grey_levels(np.full((8, 8), nothing, np.uint16), "depth"), 0)
    np.testing.assert_array_equal(grey_levels(np.full((8, 8), np.nan, np.float32), "depth"), 0)


def test_one_valid_reading_stands_out_and_divides_by_nothing():
    depth = np.zeros((8, 8), np.uint16)
    depth[3, 4] = 1200
    with np.errstate(all="raise"):
        levels = grey_levels(depth, "depth")
    assert levels[3, 4] == 128
    assert levels.sum() == 128


def test_no_reading_in_both_spellings_does_not_touch_the_range_of_the_others():
    clean = grey_levels(ramp(), "depth")
    for nothing in (0, 65535):
        holed = ramp()
        holed[::4, ::4] = nothing
        levels = grey_levels(holed, "depth")
        assert (levels[::4, ::4] == 0).all()
        seen = np.ones(holed.shape, bool)
        seen[::4, ::4] = False
        assert np.abs(levels[seen].astype(int) - clean[seen]).max() <= 3
        assert levels[seen].min() >= 1


def test_near_is_dark_and_far_is_bright():
    levels = grey_levels(ramp(), "depth")
    assert (np.diff(levels[0].astype(int)) >= 0).all()
    assert (levels[0, 0], levels[0, -1]) == (1, 255)


def test_float_metres_give_the_same_picture_as_millimetres():
    for kind in (np.float32, np.float64):
        np.testing.assert_array_equal(
            grey_levels(ramp().astype(kind) / 1000, "depth"), grey_levels(ramp(), "depth")
        )


def test_float_nonsense_is_no_reading():
    metres = ramp().astype(np.float32) / 1000
    metres[0, :4] = (np.nan, np.inf, -np.inf, -3.0)
    with np.errstate(all="raise"):
        levels = grey_levels(metres, "depth")
    assert levels[0, :4].tolist() == [0, 0, 0, 0]
    assert levels[1, -1] == 255


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_flat_infrared_is_mid_grey(dtype: type):
    with np.errstate(all="raise"):
        np.testing.assert_array_equal(grey_levels(np.full((8, 8), 17, dtype), "ir"), 128)


def test_one_hot_pixel_does_not_take_the_contrast_of_the_rest():
    thermal = (7000 + 10 * ramp() // 100).astype(np.uint16)
    plain = grey_levels(thermal, "ir")
    thermal[0, 0] = 65535
    assert np.abs(grey_levels(thermal, "ir")[1:].astype(int) - plain[1:]).max() <= 3


def test_infrared_of_8_and_of_16_bits_look_alike():
    eight = np.random.default_rng(0).integers(40, 200, (48, 64), np.uint8)
    np.testing.assert_array_equal(
        grey_levels(eight, "ir"), grey_levels(eight.astype(np.uint16) * 64, "ir")
    )


@pytest.mark.parametrize(
    ("pixels", "modality", "says"),
    [
        (GREY, "depth", "depth frame of uint8: must be 16-bit millimetres or float metres"),
        (GREY.astype(np.int16), "depth", "depth frame of int16"),
        (COLOUR, "depth", "must have one channel"),
        (FLOAT, "ir", "ir frame of float32: must be 8-bit, or 16-bit"),
        (COLOUR, "ir", "must have one channel"),
    ],
)
def test_a_wrong_dtype_or_shape_is_told(pixels: np.ndarray, modality: str, says: str):
    with pytest.raises(DataError, match=says):
        grey_levels(pixels, modality)  # type: ignore[arg-type]


@settings(max_examples=60, deadline=None)
@given(arrays.arrays(st.sampled_from([np.dtype("u2"), np.dtype("f4"), np.dtype("f8")]), (7, 5)))
def test_any_depth_at_all_gives_a_picture(depth: np.ndarray):
    with np.errstate(divide="raise", invalid="raise"):
        levels = grey_levels(depth, "depth")
    assert (levels.dtype, levels.shape) == (np.uint8, (7, 5))


@pytest.mark.parametrize(
    ("pixels", "modalities", "found"),
    [
        (COLOUR, ("rgb", "ir", "depth"), "rgb"),
        (GREY, ("rgb", "ir", "depth"), "ir"),
        (GREY, ("rgb",), "rgb"),
        (DEEP, ("rgb", "ir", "depth"), "depth"),
        (DEEP, ("rgb", "ir"), "ir"),
        (FLOAT, ("rgb", "depth"), "depth"),
    ],
)
def test_auto_goes_by_channels_and_dtype(
    tmp_path: Path, pixels: np.ndarray, modalities: tuple[str, ...], found: str
):
    assert resolve("auto", pixels, manifest(tmp_path, *modalities)) == found


@pytest.mark.parametrize(
    ("pixels", "wanted", "modalities", "says"),
    [
        (
            DEEP,
            "auto",
            ("rgb",),
            "16-bit frames are depth, bundle tiny-1.0.0 was trained for rgb only",
        ),
        (
            COLOUR,
            "auto",
            ("ir",),
            "8-bit colour frames are rgb, bundle tiny-1.0.0 was trained for ir only",
        ),
        (
            COLOUR,
            "depth",
            ("rgb", "depth"),
            "8-bit colour, depth is 16-bit millimetres .* --modality rgb",
        ),
        (DEEP, "rgb", ("rgb",), "the frames are 16-bit, rgb is 8-bit"),
        (FLOAT, "ir", ("ir",), "the frames are float, ir is 8-bit"),
        (np.zeros((4, 4), np.int32), "auto", ("rgb",), "int32"),
    ],
)
def test_frames_that_cannot_be_what_is_wanted_are_refused(
    tmp_path: Path, pixels: np.ndarray, wanted: str, modalities: tuple[str, ...], says: str
):
    with pytest.raises(ConfigError, match=says):
        resolve(wanted, pixels, manifest(tmp_path, *modalities))  # type: ignore[arg-type]


def test_a_bundle_refuses_a_modality_it_was_not_trained_for(tmp_path: Path):
    rgb_only = manifest(tmp_path, "rgb")
    with pytest.raises(
        ConfigError, match=r"--modality ir, bundle tiny-1.0.0 was trained for rgb only"
    ) as error:
        check_trained("ir", rgb_only)
    assert error.value.exit_code == 78
    check_trained("auto", rgb_only)


def preprocessor() -> Preprocessor:
    return Preprocessor(InputSpec("x", "NHWC", (32, 32), "squash", ("rgb", "ir", "depth")))


def test_the_encoder_sees_three_equal_channels_of_everything_that_is_not_colour():
    rng = np.random.default_rng(0)
    for pixels, modality in (
        (rng.integers(0, 255, (70, 90, 3), np.uint8), "ir"),
        (rng.integers(0, 9000, (70, 90), np.uint16), "ir"),
        (rng.integers(0, 9000, (70, 90), np.uint16), "depth"),
    ):
        got = preprocessor()(pixels, modality)[0]  # type: ignore[arg-type]
        assert (got.shape, got.dtype) == ((32, 32, 3), np.uint8)
        np.testing.assert_array_equal(got[..., 0], got[..., 2])
        assert np.ptp(got) > 200


def test_shrinking_depth_invents_no_distance_between_a_surface_and_a_hole():
    depth = np.full((128, 128), 2000, np.uint16)
    depth[:, 64:] = 3000
    depth[::3, ::3] = 0
    assert set(np.unique(preprocessor()(depth, "depth"))) == {0, 1, 255}


def test_frames_of_two_dtypes_and_one_size_do_not_share_a_buffer():
    preprocess = preprocessor()
    eight = np.random.default_rng(0).integers(0, 255, (128, 128), np.uint8)
    first = preprocess(eight, "ir").copy()
    preprocess(eight.astype(np.uint16) * 256, "ir")
    np.testing.assert_array_equal(preprocess(eight, "ir"), first)
