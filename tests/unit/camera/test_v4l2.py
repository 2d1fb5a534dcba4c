"""A camera that does not open says why; one that opens is believed only in what it reads back."""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from edge_runtime.camera import v4l2, v4l2_ioctl
from edge_runtime.camera.v4l2 import V4l2Camera, V4l2Path
from edge_runtime.config import CameraConfig
from edge_runtime.errors import DeviceError
from tests.v4l2 import Driver


@pytest.fixture
def driver(monkeypatch: pytest.MonkeyPatch) -> Driver:
    fake = Driver()
    monkeypatch.setattr(fcntl, "ioctl", fake.ioctl)
    monkeypatch.setattr(v4l2.cv2, "VideoCapture", fake.open)
    return fake


def camera(path: str = "/dev/null", **config: object) -> V4l2Camera:
    return V4l2Camera(V4l2Path(path), CameraConfig(**config))  # type: ignore[arg-type]


@pytest.mark.fault("C11")
@pytest.mark.parametrize(
    ("code", "state", "says"),
    [
        (errno.ENOENT, "no_device", "plug it in"),
        (errno.EACCES, "denied", "group video: sudo usermod -aG video"),
        (errno.EBUSY, "busy", "in use by"),
        (errno.EIO, "no_device", "cannot open"),
    ],
)
def test_every_refusal_of_the_kernel_has_its_state(
    monkeypatch: pytest.MonkeyPatch, code: int, state: str, says: str
):
    def refuse(*_args: object) -> int:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(DeviceError, match=says) as error:
        camera("/dev/video0")
    assert error.value.state == state


def test_a_device_that_is_no_camera_is_told():
    with pytest.raises(DeviceError, match="not a video device"):
        camera("/dev/null")


def test_a_video_device_that_does_not_capture_is_told(driver: Driver):
    driver.captures = False
    with pytest.raises(DeviceError, match="no camera"):
        camera()


@pytest.fixture
def holder(tmp_path: Path) -> Iterator[tuple[Path, subprocess.Popen[str]]]:
    """Another process that holds a file open."""
    node = tmp_path / "video7"
    node.touch()
    code = f"import sys; f = open({str(node)!r}); print('held', flush=True); sys.stdin.read()"
    command = [sys.executable, "-c", code]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield node, process
        process.kill()


@pytest.mark.fault("C11")
def test_a_busy_camera_names_who_holds_it(
    driver: Driver, holder: tuple[Path, subprocess.Popen[str]]
):
    driver.busy = True
    node, process = holder
    with pytest.raises(DeviceError, match=rf"in use by \S+ \(pid {process.pid}\)") as error:
        camera(str(node))
    assert error.value.state == "busy"


@pytest.mark.fault("C7")
def test_what_was_asked_and_what_was_got_are_both_logged(
    driver: Driver, caplog: pytest.LogCaptureFixture
):
    driver.takes = []
    driver.now = "BGR3"
    driver.size = (320, 240)
    with caplog.at_level(logging.INFO):
        camera(width=1280, height=720)
    assert "asked for MJPG/YUYV 1280x720 at 30 FPS, got BGR3 320x240 at 30 FPS" in caplog.text


@pytest.mark.parametrize(
    ("takes", "encoding"), [(["MJPG"], "mjpg"), (["YUYV"], "yuyv"), ([], "bgr")]
)
def test_the_format_is_what_the_driver_reads_back(driver: Driver, takes: list[str], encoding: str):
    driver.takes = takes
    shapes = {"mjpg": (1, 5000), "yuyv": (480, 640, 2), "bgr": (480, 640, 3)}
    driver.answers = [(True, np.zeros(shapes[encoding], np.uint8))]
    assert camera().grab().encoding == encoding


@pytest.mark.parametrize(
    ("fourcc", "delivered", "encoding"),
    [
        ("Y16 ", np.arange(480 * 640, dtype=np.uint32).astype(np.uint16).reshape(480, 640), "y16"),
        (
            "Y16 ",
            np.arange(480 * 640, dtype=np.uint32).astype(np.uint16).view(np.uint8).reshape(1, -1),
            "y16",
        ),
        ("GREY", np.arange(480 * 640).astype(np.uint8).reshape(1, -1), "grey"),
    ],
)
def test_a_camera_of_one_channel_is_read_with_all_its_bits(
    driver: Driver, fourcc: str, delivered: np.ndarray, encoding: str
):
    driver.takes = []
    driver.now = fourcc
    driver.answers = [(True, delivered)]
    frame = camera().grab()
    assert (frame.encoding, frame.data.shape) == (encoding, (480, 640))
    assert frame.data[-1, -1] == (480 * 640 - 1) % (65536 if encoding == "y16" else 256)


@pytest.mark.fault("C2", "C4")
@pytest.mark.parametrize("answer", [(False, None), (True, None), (True, np.empty(0, np.uint8))])
def test_a_read_that_succeeds_with_nothing_is_no_frame(
    driver: Driver, answer: tuple[bool, np.ndarray | None]
):
    driver.answers = [answer]
    with pytest.raises(DeviceError, match="no picture") as error:
        camera().grab()
    assert error.value.state == "no_signal"


@pytest.mark.fault("C7")
@pytest.mark.parametrize("takes", [["YUYV"], []])
def test_another_picture_size_than_agreed_opens_the_camera_again(driver: Driver, takes: list[str]):
    driver.takes = takes
    driver.answers = [(True, np.zeros((240, 320, 2 if takes else 3), np.uint8))]
    with pytest.raises(DeviceError, match="size changed") as error:
        camera().grab()
    assert error.value.state == "reconnecting"


def test_formats_and_sizes_come_from_the_kernel(driver: Driver):
    assert list(v4l2_ioctl.formats(0)) == ["YUYV", "MJPG"]
    assert list(v4l2_ioctl.sizes(0, "MJPG")) == ["640x480"]
    assert list(v4l2_ioctl.sizes(0, "YUYV")) == ["16x16 to 3840x2160"]
    assert v4l2_ioctl.capability(0).card == "HD Camera"


@pytest.mark.fault("C8")
def test_a_camera_that_returns_under_another_number_is_followed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """The by-id link is remembered even when the configuration says /dev/video0."""
    by_id = tmp_path / "by-id"
    by_id.mkdir()
    video0 = tmp_path / "video0"
    video1 = tmp_path / "video1"
    video0.touch()
    (by_id / "usb-cam").symlink_to(video0)
    find = v4l2_ioctl.stable_name
    monkeypatch.setattr(v4l2_ioctl, "stable_name", lambda node: find(node, by_id))
    path = V4l2Path(str(video0))
    path.remember(path.node())
    before = path.presence()
    video0.unlink()
    (by_id / "usb-cam").unlink()
    assert path.presence() is None
    video1.touch()
    (by_id / "usb-cam").symlink_to(video1)
    assert path.node() == str(video1)
    assert path.presence() not in (None, before)


@pytest.mark.fault("C8")
def test_a_configured_by_id_link_is_followed_to_where_it_leads_now(tmp_path: Path):
    for name in ("video0", "video1"):
        (tmp_path / name).touch()
    link = tmp_path / "usb-cam"
    link.symlink_to(tmp_path / "video0")
    path = V4l2Path(str(link))
    assert path.node() == str(tmp_path / "video0")
    link.unlink()
    link.symlink_to(tmp_path / "video1")
    assert path.node() == str(tmp_path / "video1")
