"""A clip that OpenCV's own reader plays, frame by frame, at the rate it was taken."""

from __future__ import annotations

import io
from pathlib import Path

import cv2
import numpy as np
import pytest

from edge_runtime.errors import DataError
from edge_runtime.sinks.triggers.avi import AviWriter


def jpeg(shade: int, width: int = 65) -> bytes:
    return bytes(cv2.imencode(".jpg", np.full((48, width, 3), shade, np.uint8))[1])


def test_every_frame_comes_back_in_order_at_the_rate_it_was_taken(tmp_path: Path):
    path = tmp_path / "clip.avi"
    with path.open("wb") as stream:
        avi = AviWriter(stream)
        for i in range(20):
            coming = avi.size_with(jpeg(10 * i))
            avi.add(jpeg(10 * i), 100 + i / 4)
            assert avi.size == coming
        promised = avi.size
        avi.finish()
    assert path.stat().st_size == promised
    for backend in (cv2.CAP_FFMPEG, cv2.CAP_OPENCV_MJPEG):
        capture = cv2.VideoCapture(str(path), backend)
        assert capture.get(cv2.CAP_PROP_FPS) == pytest.approx(4.0)
        assert capture.get(cv2.CAP_PROP_FRAME_COUNT) == 20
        assert (capture.get(cv2.CAP_PROP_FRAME_WIDTH), capture.get(cv2.CAP_PROP_FRAME_HEIGHT)) == (
            65,
            48,
        )
        for i in range(20):
            ok, picture = capture.read()
            assert ok
            assert abs(float(picture.mean()) - 10 * i) < 3
        assert not capture.read()[0]


def test_times_are_offsets_from_the_first_frame():
    avi = AviWriter(io.BytesIO())
    for time_s in (5.0, 5.21, 5.4):
        avi.add(jpeg(0), time_s)
    assert avi.offsets_s == [0, 0.21, 0.4]
    assert avi.frames == 3


def test_one_frame_is_a_clip_too(tmp_path: Path):
    path = tmp_path / "clip.avi"
    with path.open("wb") as stream:
        avi = AviWriter(stream)
        avi.add(jpeg(200), 1.0)
        avi.finish()
    assert cv2.VideoCapture(str(path), cv2.CAP_FFMPEG).read()[0]


def test_bytes_that_are_no_jpeg_are_refused_and_the_clip_goes_on():
    avi = AviWriter(io.BytesIO())
    avi.add(jpeg(1), 1.0)
    size = avi.size
    with pytest.raises(DataError):
        avi.add(b"no jpeg" * 20, 2.0)
    assert (avi.size, avi.frames) == (size, 1)
