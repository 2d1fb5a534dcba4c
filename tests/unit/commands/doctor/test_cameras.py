"""The doctor says of every camera what it delivers, and of one that cannot be opened why."""

from __future__ import annotations

import errno
import fcntl
from pathlib import Path

import pytest

from edge_runtime.commands.doctor import cameras
from edge_runtime.commands.doctor.answers import Options
from tests.doubles.mjpeg_camera import jpegs
from tests.v4l2 import Driver


def test_a_missing_camera_says_what_to_do():
    assert cameras.check_camera(Options(camera="/dev/video77"))[0] == (
        "fail",
        "no_device: /dev/video77: no such camera",
        "plug it in",
    )


@pytest.fixture
def board(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """/dev and /sys of a board with one USB camera."""
    (tmp_path / "dev/v4l/by-id").mkdir(parents=True)
    (tmp_path / "dev/video0").touch()
    (tmp_path / "dev/v4l/by-id/usb-HD_Camera").symlink_to(tmp_path / "dev/video0")
    name = tmp_path / "sys/class/video4linux/video0/name"
    name.parent.mkdir(parents=True)
    name.write_text("HD Camera\n")
    monkeypatch.setattr(fcntl, "ioctl", Driver().ioctl)
    return tmp_path


def test_a_camera_is_described_with_its_formats_and_its_stable_name(board: Path):
    ((level, text, _),) = cameras.check_devices(Options(), board)
    assert level == "ok"
    assert "HD Camera (uvcvideo), YUYV 16x16 to 3840x2160, MJPG 640x480" in text
    assert "stable name" in text
    assert "usb-HD_Camera" in text


def test_a_csi_camera_is_explained(board: Path):
    (board / "sys/class/video4linux/video0/name").write_text("unicam-image\n")
    level, text, advice = cameras.check_devices(Options(), board)[-1]
    assert level == "warn"
    assert "ribbon" in text
    assert "edge-label --camera libcamera" in advice


def test_a_program_is_run_until_it_gives_a_picture(tmp_path: Path):
    (tmp_path / "picture.jpg").write_bytes(jpegs(1)[0])
    ((level, text, _),) = cameras.check_camera(Options(f"exec:cat {tmp_path}/picture.jpg"))
    assert level == "ok"
    assert "a picture after" in text
    assert text.endswith("/cat")


def test_a_program_without_a_picture_is_a_problem():
    ((level, text, advice),) = cameras.check_camera(Options("exec:ls /nonesuch"))
    assert level == "fail"
    assert text.startswith("no_signal: exec:ls /nonesuch: ended with exit code 2; it says: ")
    assert advice == ""
    ((level, text, advice),) = cameras.check_camera(Options("exec:nonesuch"))
    assert (level, advice) == ("fail", "install it, or give its full path")


def test_no_camera_at_all_is_told(tmp_path: Path):
    (tmp_path / "dev").mkdir()
    assert "no camera" in cameras.check_devices(Options(), tmp_path)[0][1]


def test_a_device_that_we_may_not_open_is_listed_with_the_reason(
    board: Path, monkeypatch: pytest.MonkeyPatch
):
    def denied(*_: object) -> int:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(cameras.os, "open", denied)
    assert (
        "Permission denied; group video may open it"
        in cameras.check_devices(Options(), board)[0][1]
    )
