"""A pipe carries JPEGs, or raw pictures of the configured size; its end is the end of the run."""

from __future__ import annotations

import contextlib
import logging
import os
import pty
import threading
import time
from collections.abc import Iterator

import cv2
import numpy as np
import pytest

from edge_runtime.camera import open_source, pace, pipe, splitter
from edge_runtime.camera.decode import FULL_SIZE, decode
from edge_runtime.camera.live import LiveSource
from edge_runtime.camera.pipe import PipeReader, new_splitter
from edge_runtime.config import CameraConfig
from edge_runtime.errors import ConfigError, DataError, UsageError
from edge_runtime.records import Frame
from tests.doubles.mjpeg_camera import jpegs

PICTURES = jpegs(3)


@pytest.fixture
def ends(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[int, int]]:
    """A pipe whose reading end is the standard input."""
    reading, writing = os.pipe()
    monkeypatch.setattr(pipe, "_STDIN", reading)
    yield reading, writing
    os.close(reading)
    with contextlib.suppress(OSError):  # the test has closed it
        os.close(writing)


def standard_input() -> LiveSource:
    source = open_source(CameraConfig(source="-"))
    assert isinstance(source, LiveSource)
    return source


def write_slowly(fd: int, *pieces: bytes) -> None:
    """Write, and close the pipe at the end."""
    # A descriptor of its own: the number of the test's may belong to the next test's by then.
    own = os.dup(fd)
    os.close(fd)

    def work() -> None:
        with os.fdopen(own, "wb", buffering=0) as end, contextlib.suppress(BrokenPipeError):
            for piece in pieces:
                end.write(piece)
                time.sleep(0.02)

    threading.Thread(target=work, daemon=True).start()


def frames(source: LiveSource) -> list[Frame]:
    """All frames until the end; the slow writer lets none be dropped."""
    delivered = []
    while not source.ended:
        frame = source.read(5)
        if frame is not None:
            delivered.append(frame)
    source.close()
    return delivered


def test_the_end_of_the_pipe_is_the_end_of_the_run_and_no_picture_is_lost(
    ends: tuple[int, int], caplog: pytest.LogCaptureFixture
):
    caplog.set_level(logging.INFO)
    source = standard_input()
    write_slowly(ends[1], *PICTURES)
    seen = frames(source)
    assert len(seen) + seen[-1].dropped == 3
    assert seen[-1].data.tobytes() == PICTURES[-1]
    assert "camera -: the pipe has ended" in caplog.text


@pytest.mark.fault("C20")
@pytest.mark.parametrize(
    ("pieces", "says"),
    [
        ([], "standard input: ended before the first picture; pipe MJPEG into it"),
        ([b"\0" * 60_000] * 3, "standard input: no picture in 0 MB; pipe MJPEG into it"),
    ],
)
def test_a_pipe_without_a_picture_is_one_line(
    ends: tuple[int, int], monkeypatch: pytest.MonkeyPatch, pieces: list[bytes], says: str
):
    monkeypatch.setattr(splitter, "LIMIT", 100_000)
    source = standard_input()
    write_slowly(ends[1], *pieces)
    with pytest.raises(DataError, match=says):
        frames(source)


@pytest.mark.fault("C19")
def test_a_silent_pipe_is_frozen_and_not_stuck(
    ends: tuple[int, int], monkeypatch: pytest.MonkeyPatch
):
    """Who writes into it may come back; only a thread that a driver keeps is stuck."""
    monkeypatch.setattr(pace, "SILENT_S", 0.1)
    source = standard_input()
    source._pace.stuck_s = 1.0
    os.write(ends[1], PICTURES[0])
    assert source.read(5) is not None
    start = time.monotonic()
    while time.monotonic() < start + 2:
        source.read(0.1)
    assert source.state == "frozen"
    os.write(ends[1], PICTURES[1])
    assert source.read(5) is not None
    assert source.state == "ok"
    source.close()


def test_a_terminal_is_no_pipe(monkeypatch: pytest.MonkeyPatch):
    master, terminal = pty.openpty()
    monkeypatch.setattr(pipe, "_STDIN", terminal)
    with pytest.raises(UsageError, match="standard input is a terminal; pipe pictures into it"):
        open_source(CameraConfig(source="-"))
    os.close(master)
    os.close(terminal)


RAW = {
    "YU12": (np.random.default_rng(0).integers(0, 255, (72, 64), np.uint8), "yu12", (48, 64, 3)),
    "YUYV": (np.random.default_rng(0).integers(0, 255, (48, 64, 2), np.uint8), "yuyv", (48, 64, 3)),
    "GREY": (np.random.default_rng(0).integers(0, 255, (48, 64), np.uint8), "grey", (48, 64)),
    "Y16": (np.random.default_rng(0).integers(0, 65535, (48, 64), np.uint16), "y16", (48, 64)),
}


@pytest.mark.parametrize("fourcc", RAW)
def test_raw_pictures_have_the_configured_size(ends: tuple[int, int], fourcc: str):
    picture, encoding, shape = RAW[fourcc]
    config = CameraConfig(source="-", fourcc=fourcc, width=64, height=48)  # type: ignore[arg-type]
    reader = PipeReader("-", ends[0], new_splitter(config))
    os.write(ends[1], picture.tobytes() * 2)
    for _ in range(2):
        frame = reader.grab()
        assert frame is not None
        assert (frame.encoding, frame.data.tobytes()) == (encoding, picture.tobytes())
        assert decode(frame, FULL_SIZE).shape == shape


def test_yu12_becomes_bgr():
    bgr = np.full((48, 64, 3), (200, 60, 20), np.uint8)
    yu12 = cv2.cvtColor(bgr, cv2.COLOR_BGR2YUV_I420)
    seen = decode(Frame(yu12, "yu12", 0.0, 0.0), FULL_SIZE)
    assert np.abs(seen.astype(int) - bgr).max() < 4


def test_yu12_needs_even_sides():
    with pytest.raises(ConfigError, match="even sides, not 641x480"):
        open_source(CameraConfig(source="exec:true", fourcc="YU12", width=641))


@pytest.mark.fault("C20")
def test_a_picture_size_that_changes_is_logged_once_and_harms_nothing(
    ends: tuple[int, int], caplog: pytest.LogCaptureFixture
):
    caplog.set_level(logging.INFO)
    large, small = jpegs(1)[0], jpegs(1, (160, 120))[0]
    reader = PipeReader("x", ends[0], new_splitter(CameraConfig()))
    shapes = set()
    for picture in (large, small, large, small):
        os.write(ends[1], picture)
        frame = reader.grab()
        assert frame is not None
        shapes.add(decode(frame, FULL_SIZE).shape)
    assert shapes == {(240, 320, 3), (120, 160, 3)}
    assert [record.message for record in caplog.records] == [
        "camera x: sends JPEGs of 320x240",
        "camera x: its pictures change to 160x120",
    ]


def test_a_picture_without_a_size_is_handed_on_and_the_pipeline_counts_it(
    ends: tuple[int, int], caplog: pytest.LogCaptureFixture
):
    caplog.set_level(logging.INFO)
    reader = PipeReader("x", ends[0], new_splitter(CameraConfig()))
    os.write(ends[1], b"\xff\xd8\xff\xda\x00\x02" + b"\x00" * 100 + b"\xff\xd9")
    frame = reader.grab()
    assert frame is not None
    assert caplog.text == ""
    with pytest.raises(DataError, match="broken JPEG"):
        decode(frame, FULL_SIZE)
