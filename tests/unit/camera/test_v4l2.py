"""Why a camera does not open is said in words, before OpenCV says only no."""

from __future__ import annotations

import errno
import os

import cv2
import numpy as np
import pytest

from edge_runtime.camera import v4l2
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


class OneFormat:
    """A cv2.VideoCapture on a driver that knows one FOURCC, whatever it is asked for."""

    def __init__(self, fourcc: str, data: np.ndarray) -> None:
        code = cv2.VideoWriter.fourcc(*fourcc)
        self._values = {cv2.CAP_PROP_FOURCC: code, cv2.CAP_PROP_FRAME_WIDTH: 64, cv2.CAP_PROP_FRAME_HEIGHT: 48}
        self._data = data

    def isOpened(self) -> bool:  # noqa: N802
        return True

    def set(self, _which: int, _value: float) -> bool:
        return True

    def get(self, which: int) -> float:
        return self._values.get(which, 0)

    def read(self) -> tuple[bool, np.ndarray]:
        return True, self._data


@pytest.mark.parametrize(
    ("fourcc", "delivered", "encoding"),
    [
        ("Y16 ", np.arange(48 * 64, dtype=np.uint16).reshape(48, 64), "y16"),
        ("Y16 ", np.arange(48 * 64, dtype=np.uint16).view(np.uint8).reshape(1, -1), "y16"),
        ("GREY", np.arange(48 * 64).astype(np.uint8).reshape(1, -1), "grey"),
    ],
)
def test_a_camera_of_one_channel_is_read_with_all_its_bits(
    monkeypatch: pytest.MonkeyPatch, fourcc: str, delivered: np.ndarray, encoding: str
):
    monkeypatch.setattr(v4l2, "_check_access", lambda *_: None)
    monkeypatch.setattr(cv2, "VideoCapture", lambda *_: OneFormat(fourcc, delivered))
    frame = V4l2Camera("/dev/video0", CameraConfig()).grab()
    assert (frame.encoding, frame.data.shape) == (encoding, (48, 64))
    assert frame.data[47, 63] == (48 * 64 - 1 if encoding == "y16" else (48 * 64 - 1) % 256)
