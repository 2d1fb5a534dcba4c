"""Why a camera does not open is said in words, before OpenCV says only no."""

from __future__ import annotations

import errno
import os

import pytest

from edge_runtime.camera.v4l2 import V4l2Camera
from edge_runtime.config import CameraConfig
from edge_runtime.errors import DeviceError


@pytest.mark.parametrize(
    ("code", "state", "says"),
    [
        (errno.ENOENT, "no_device", "plug it in"),
        (errno.EACCES, "denied", "usermod -aG video"),
        (errno.EBUSY, "busy", "in use by another program"),
        (errno.EIO, "no_device", "cannot open"),
    ],
)
def test_every_refusal_of_the_kernel_has_its_state(monkeypatch: pytest.MonkeyPatch, code: int, state: str, says: str):
    def refuse(*_args: object) -> int:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(DeviceError, match=says) as error:
        V4l2Camera("/dev/video0", CameraConfig())
    assert error.value.state == state


def test_a_device_that_is_no_camera_is_told():
    with pytest.raises(DeviceError, match="does not open as a camera"):
        V4l2Camera("/dev/null", CameraConfig())
