"""Whatever a camera delivers, somebody can look at it."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from edge_runtime.camera.jpeg import JpegEncoder, standard_huffman_tables, with_huffman_tables
from edge_runtime.commands.builtin_frame import builtin_jpeg
from edge_runtime.errors import DataError
from edge_runtime.records import Frame, Turn


def frame(data: np.ndarray, encoding: str) -> Frame:
    return Frame(data, encoding, 0.0, 0.0)  # type: ignore[arg-type]


def pixels(jpeg: bytes) -> np.ndarray:
    return cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR)


def test_the_cameras_own_jpeg_is_passed_on_byte_for_byte_without_padding():
    jpeg = builtin_jpeg()
    padded = np.concatenate([jpeg, np.zeros(30, np.uint8)])
    assert JpegEncoder()(frame(padded, "mjpg")) == jpeg.tobytes()


def test_missing_huffman_tables_are_put_back():
    whole = builtin_jpeg().tobytes()
    tables = standard_huffman_tables()
    assert len(tables) == 4 * 4 + 1 * 4 + 2 * (16 + 12) + 2 * (16 + 162)
    assert tables[:40] in whole
    bare = whole
    while (start := bare.find(b"\xff\xc4")) >= 0:
        bare = bare[:start] + bare[start + 2 + int.from_bytes(bare[start + 2 : start + 4], "big") :]
    assert b"\xff\xc4" not in bare
    assert (pixels(with_huffman_tables(bare)) == pixels(whole)).all()
    assert with_huffman_tables(whole) == whole


@pytest.mark.parametrize(
    ("data", "encoding"),
    [
        (np.full((48, 64, 3), 90, np.uint8), "bgr"),
        (np.full((48, 64), 90, np.uint8), "grey"),
        (np.full((48, 64), 9000, np.uint16), "y16"),
        (np.zeros((48, 64), np.uint16), "y16"),
        (np.full((48, 64, 2), 128, np.uint8), "yuyv"),
    ],
)
def test_every_encoding_becomes_a_picture_of_the_same_size(data: np.ndarray, encoding: str):
    assert pixels(JpegEncoder()(frame(data, encoding))).shape == (48, 64, 3)


def test_depth_in_metres_is_as_bright_as_its_farthest_point():
    metres = np.tile(np.linspace(0, 4, 64, dtype=np.float32), (48, 1))
    metres[:8, :8] = np.nan
    metres[:8, 8:16] = np.inf
    shown = pixels(JpegEncoder()(frame(metres, "f32")))
    assert shown[:8, :16].max() < 40
    assert shown[20:, -2:].min() > 240


def test_wide_frames_are_shrunk_in_proportion():
    assert pixels(
        JpegEncoder(max_width=640)(frame(np.zeros((720, 1280, 3), np.uint8), "bgr"))
    ).shape == (360, 640, 3)


@pytest.mark.parametrize("shape", [(540, 960), (1080, 1920), (967, 1443), (1, 4000)])
def test_a_shrunk_frame_is_the_same_picture_without_moire(shape: tuple[int, int]):
    """Stripes of one pixel average to grey; every other pixel of them is black or white."""
    stripes = np.zeros((*shape, 3), np.uint8)
    stripes[:, ::2] = 255
    small = pixels(JpegEncoder(max_width=320)(frame(stripes, "bgr")))
    assert small.shape[:2] == (max(1, round(shape[0] * 320 / shape[1])), 320)
    assert abs(int(np.median(small)) - 127) < 30


@pytest.mark.parametrize("cut", [0, 10, 5000])
def test_half_a_jpeg_is_a_data_error(cut: int):
    with pytest.raises(DataError):
        JpegEncoder()(frame(builtin_jpeg()[:cut], "mjpg"))


@pytest.mark.fault("C18")
def test_the_picture_of_a_camera_that_hangs_upside_down_is_upright():
    """Turned pixels and not EXIF data: a clip and many programs know nothing of those."""
    lying = Frame(builtin_jpeg(), "mjpg", 0.0, 0.0, turn=Turn(180))
    seen = pixels(JpegEncoder()(lying))
    expected = pixels(builtin_jpeg().tobytes())[::-1, ::-1]
    assert np.abs(seen.astype(int) - expected).mean() < 3
