"""JPEG from a camera is checked, then decoded no larger than is needed."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest

from edge_runtime.camera.decode import decode
from edge_runtime.commands.builtin_frame import builtin_jpeg
from edge_runtime.errors import DataError
from edge_runtime.records import Frame, Turn


def frame(data: np.ndarray, encoding: str) -> Frame:
    return Frame(data, encoding, 0.0, 0.0)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("target", "size"),
    [((192, 192), (240, 320)), ((300, 300), (480, 640)), ((100, 100), (120, 160))],
)
def test_a_jpeg_is_decoded_at_the_smallest_size_that_covers_the_target(
    target: tuple[int, int], size: tuple[int, int]
):
    assert decode(frame(builtin_jpeg(), "mjpg"), target).shape == (*size, 3)


def test_the_reduced_picture_is_the_same_picture():
    full = cv2.imdecode(builtin_jpeg(), cv2.IMREAD_COLOR)
    half = decode(frame(builtin_jpeg(), "mjpg"), (192, 192))
    assert (
        np.abs(half.astype(int) - cv2.resize(full, (320, 240), interpolation=cv2.INTER_AREA)).mean()
        < 2
    )


def test_fill_bytes_before_a_marker_are_passed_over():
    data = builtin_jpeg().tobytes().replace(b"\xff\xc0", b"\xff\xff\xff\xc0", 1)
    assert decode(frame(np.frombuffer(data, np.uint8), "mjpg"), (192, 192)).shape == (240, 320, 3)


def truncated() -> np.ndarray:
    return builtin_jpeg()[:-5000]


def headless() -> np.ndarray:
    return builtin_jpeg()[2:]


def no_size() -> np.ndarray:
    data = builtin_jpeg().tobytes()
    return np.frombuffer(data.replace(b"\xff\xc0", b"\xff\xe9", 1), np.uint8)


@pytest.mark.fault("C6")
@pytest.mark.parametrize(
    "broken",
    [truncated, headless, no_size, lambda: np.zeros(0, np.uint8), lambda: np.zeros(99, np.uint8)],
)
def test_half_a_picture_is_no_picture(broken):
    with pytest.raises(DataError, match="broken JPEG"):
        decode(frame(broken(), "mjpg"), (192, 192))


def test_no_bit_flip_can_do_more_than_spoil_the_picture():
    rng = np.random.default_rng(0)
    good = builtin_jpeg()
    for _ in range(200):
        data = good.copy()
        data[rng.integers(0, len(data), 20)] ^= rng.integers(1, 255, 20, np.uint8)
        try:
            pixels = decode(frame(data, "mjpg"), (192, 192))
        except DataError:
            continue
        assert pixels.dtype == np.uint8


def test_yuyv_becomes_bgr():
    yuyv = np.zeros((4, 6, 2), np.uint8)
    yuyv[..., 0] = 235  # white
    yuyv[..., 1] = 128  # no colour
    assert decode(frame(yuyv, "yuyv"), (2, 2)).min() >= 250


@pytest.mark.fault("C6")
def test_a_header_that_promises_gigapixels_is_refused_before_decoding():
    """At 1/8 OpenCV's own limit lets 4 gigapixels through, 200 MB of memory."""
    data = builtin_jpeg().copy()
    at = bytes(data).index(b"\xff\xc0") + 5
    data[at : at + 4] = list((20_000).to_bytes(2, "big") + (20_000).to_bytes(2, "big"))
    with pytest.raises(DataError, match="promises 20000x20000"):
        decode(Frame(data, "mjpg", 0.0, 0.0), (192, 192))


TURNS = {
    Turn(90): lambda picture: np.rot90(picture, -1),  # NumPy turns counterclockwise
    Turn(180): lambda picture: np.rot90(picture, 2),
    Turn(270): lambda picture: np.rot90(picture),
    Turn(0, "horizontal"): lambda picture: picture[:, ::-1],
    Turn(0, "vertical"): lambda picture: picture[::-1],
    Turn(90, "horizontal"): lambda picture: np.rot90(picture, -1)[:, ::-1],
}
RANDOM = np.random.default_rng(0)
PICTURES = {
    "bgr": RANDOM.integers(0, 255, (48, 64, 3), np.uint8),
    "grey": RANDOM.integers(0, 255, (48, 64), np.uint8),
    "y16": RANDOM.integers(0, 65535, (48, 64), np.uint16),
    "f32": RANDOM.random((48, 64), np.float32),
    "yuyv": RANDOM.integers(0, 255, (48, 64, 2), np.uint8),
    "mjpg": builtin_jpeg(),
}


@pytest.mark.fault("C18")
@pytest.mark.parametrize("encoding", PICTURES)
@pytest.mark.parametrize("turn", TURNS, ids=str)
def test_every_kind_of_frame_is_turned_clockwise_and_then_mirrored(turn: Turn, encoding: str):
    lying = frame(PICTURES[encoding], encoding)
    upright = decode(replace(lying, turn=turn), (192, 192))
    assert (upright == TURNS[turn](decode(lying, (192, 192)))).all()


def test_a_picture_on_its_side_still_covers_what_is_needed():
    """The camera's 640 columns become 640 lines; half of its picture is then 320 by 240."""
    lying = Frame(builtin_jpeg(), "mjpg", 0.0, 0.0, turn=Turn(90))
    assert decode(lying, (320, 240)).shape[:2] == (320, 240)
    assert decode(lying, (240, 320)).shape[:2] == (640, 480)
