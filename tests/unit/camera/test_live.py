"""A live camera gives its newest frame, and comes back after it was gone."""

from __future__ import annotations

import logging
import threading
import time

import numpy as np
import pytest

from edge_runtime.camera import live, pace
from edge_runtime.camera.live import LiveSource
from edge_runtime.config import CameraConfig
from edge_runtime.errors import DeviceError, NoInputError
from edge_runtime.records import Frame, Turn
from tests.daemon import wait_until


class StepCamera:
    """Delivers a frame whenever the test lets it; fails when told to."""

    def __init__(self) -> None:
        self.go = threading.Semaphore(0)
        self.done = threading.Semaphore(0)
        self.count = 0
        self.gone = False
        self.closed = 0

    def grab(self) -> Frame:
        self.done.release()
        self.go.acquire()
        if self.gone:
            raise DeviceError("x: cable out", state="no_device")
        self.count += 1
        return Frame(np.full((2, 2, 3), self.count, np.uint8), "bgr", time.monotonic(), time.time())

    def close(self) -> None:
        self.closed += 1

    def deliver(self, n: int = 1) -> None:
        """Let n frames through, and wait until the capture thread has taken the last."""
        for _ in range(n):
            self.done.acquire()
            self.go.release()
        self.done.acquire()
        self.done.release()


@pytest.mark.fault("C18")
def test_every_frame_says_how_it_must_be_turned():
    camera = StepCamera()
    source = LiveSource("x", lambda: camera, CameraConfig(rotate=90, flip="vertical"))
    source.start()
    camera.deliver()
    frame = source.read(5)
    assert frame is not None
    assert frame.turn == Turn(90, "vertical")
    camera.go.release()
    source.close()


def test_only_the_newest_frame_is_kept_and_the_others_are_counted():
    camera = StepCamera()
    source = LiveSource("x", lambda: camera, CameraConfig())
    source.start()
    camera.deliver(5)
    frame = source.read(5)
    assert frame is not None
    assert (frame.data[0, 0, 0], frame.dropped) == (5, 4)
    assert source.read(0) is None
    camera.go.release()
    source.close()
    assert camera.closed == 1


def test_a_camera_that_left_is_opened_again_and_the_log_says_so_calmly(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    monkeypatch.setattr(live, "BACKOFF_FIRST_S", 0.01)
    cameras = [StepCamera(), StepCamera()]
    opened = iter(cameras)
    with caplog.at_level(logging.INFO):
        source = LiveSource("x", lambda: next(opened), CameraConfig())
        source.start()
        cameras[0].deliver()
        assert source.read(5) is not None
        cameras[0].gone = True
        cameras[0].go.release()
        cameras[1].deliver()
        assert source.read(5) is not None
    assert source.state == "ok"
    assert cameras[0].closed == 1
    assert [r.message for r in caplog.records] == [
        "camera x: delivering frames",
        "camera x: cable out; trying again",
        "camera x: delivering frames again, after 0 s",
    ]
    cameras[1].go.release()
    source.close()


def test_a_camera_that_delivered_and_fell_silent_is_first_looked_for_soon(
    monkeypatch: pytest.MonkeyPatch,
):
    waits: list[float] = []

    def back_off(_source: LiveSource, seconds: float) -> float:
        waits.append(seconds)
        return 2 * seconds

    monkeypatch.setattr(LiveSource, "_back_off", back_off)
    monkeypatch.setattr(pace, "SILENT_S", 0.0)
    camera = StepCamera()
    after = StepCamera()
    opened = iter((None, None, camera, after))

    def open_device() -> StepCamera:
        device = next(opened)
        if device is None:
            raise DeviceError("no such camera", state="no_device")
        return device

    source = LiveSource("x", open_device, CameraConfig())
    source.start()
    camera.deliver()
    assert source.read(5) is not None
    assert source.read(0) is None
    assert source.state == "frozen"
    camera.gone = True
    camera.go.release()
    assert after.done.acquire(timeout=5)
    assert waits == [1.0, 2.0, 1.0]
    after.gone = True
    after.go.release()
    source.close()


def test_on_request_a_missing_camera_is_an_error():
    def no_camera():
        raise DeviceError("no such camera", state="no_device")

    source = LiveSource("x", no_camera, CameraConfig(exit_on_error=True))
    with pytest.raises(DeviceError, match="no such camera"):
        source.read(5)
    source.close()


def test_what_no_retry_can_help_is_an_error_at_once():
    def wrong():
        raise NoInputError("pip install 'edge-label[demo]'")

    source = LiveSource("demo", wrong, CameraConfig())
    with pytest.raises(NoInputError):
        source.read(5)
    source.close()


@pytest.mark.fault("P6")
def test_a_camera_that_cannot_even_be_looked_for_is_tried_again(monkeypatch: pytest.MonkeyPatch):
    """A name may be such that the question alone fails; the capture thread goes on all the same."""

    def looks() -> object:
        raise UnicodeError("label empty or too long")

    def opens() -> StepCamera:
        tries.append(time.monotonic())
        raise DeviceError("not there", state="no_device")

    tries: list[float] = []
    monkeypatch.setattr(live, "LOOK_S", 0.01)
    monkeypatch.setattr(live, "BACKOFF_FIRST_S", 0.02)
    source = LiveSource("x", opens, CameraConfig(), presence=looks)
    source.start()
    wait_until(lambda: len(tries) > 2)
    source.close()
