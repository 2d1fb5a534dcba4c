"""A V4L2 camera: found again under any number, negotiated honestly, read raw so that JPEG decoding can wait."""

from __future__ import annotations

import errno
import logging
import math
import os
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_runtime.camera import v4l2_ioctl
from edge_runtime.camera.decode import encoding_of
from edge_runtime.config import CameraConfig
from edge_runtime.errors import DeviceError
from edge_runtime.records import Encoding, Frame
from edge_runtime.system.opencv import cv2

log = logging.getLogger("edge_label.camera")

_PREFERRED = ("MJPG", "YUYV")
# What is taken undecoded. GREY and Y16 are what thermal, night-vision and depth cameras offer, and nothing else.
_ENCODINGS: dict[str, Encoding] = {"MJPG": "mjpg", "YUYV": "yuyv", "GREY": "grey", "Y16 ": "y16"}


class V4l2Path:
    """Where a camera is now. A by-id link is followed; behind a bare /dev/videoN its by-id link is remembered, so
    that a camera which returns as /dev/video1 is still the same camera.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self._stable: str | None = None

    def node(self) -> str:
        """The device node behind the name, at this moment."""
        if self._stable is not None and Path(self._stable).exists():
            return os.path.realpath(self._stable)
        return os.path.realpath(self.path)

    def remember(self, node: str) -> None:
        """``node`` has opened: this is the camera that is meant from now on."""
        self._stable = v4l2_ioctl.stable_name(node)

    def presence(self) -> object:
        """Changes when the node appears, is replaced, or gets other permissions."""
        node = self.node()
        try:
            facts = Path(node).stat()
        except OSError:
            return None
        return node, facts.st_rdev, facts.st_ino, facts.st_mode, facts.st_gid


class V4l2Camera:
    """An open V4L2 device. Raises DeviceError (no_device, denied, busy, no_signal) with what to do."""

    def __init__(self, path: V4l2Path, config: CameraConfig) -> None:
        self._path = path.path
        self._node = path.node()
        check_access(self._path, self._node)
        self._capture = cv2.VideoCapture(self._node, cv2.CAP_V4L2)
        if not self._capture.isOpened():
            raise DeviceError(
                f"{self._path}: does not open as a camera",
                "edge-label doctor tells more",
                state="no_signal",
            )
        path.remember(self._node)
        self._encoding = self._negotiate(config)

    def _negotiate(self, config: CameraConfig) -> Encoding:
        """Ask for what is configured, or MJPG, then YUYV; believe only what the driver reads back."""
        capture = self._capture
        asked = _PREFERRED if config.fourcc == "auto" else (config.fourcc.ljust(4),)
        got = ""
        for fourcc in asked:
            capture.set(cv2.CAP_PROP_FOURCC, cv2.VideoWriter.fourcc(*fourcc))
            capture.set(cv2.CAP_PROP_FRAME_WIDTH, config.width)
            capture.set(cv2.CAP_PROP_FRAME_HEIGHT, config.height)
            capture.set(cv2.CAP_PROP_FPS, config.fps)
            got = (
                int(capture.get(cv2.CAP_PROP_FOURCC))
                .to_bytes(4, "little")
                .decode("ascii", "replace")
            )
            if got == fourcc:
                break
        capture.set(cv2.CAP_PROP_BUFFERSIZE, 1)
        self._size = (
            int(capture.get(cv2.CAP_PROP_FRAME_HEIGHT)),
            int(capture.get(cv2.CAP_PROP_FRAME_WIDTH)),
        )
        encoding: Encoding = _ENCODINGS.get(got, "bgr")
        if encoding != "bgr" and not capture.set(cv2.CAP_PROP_CONVERT_RGB, 0):
            encoding = "bgr"
        at = self._path if self._path == self._node else f"{self._path} ({self._node})"
        log.info(
            "%s: asked for %s %dx%d at %g FPS, got %s %dx%d at %g FPS",
            *(at, "/".join(asked), config.width, config.height, config.fps),
            *(got, self._size[1], self._size[0], capture.get(cv2.CAP_PROP_FPS)),
        )
        return encoding

    def grab(self) -> Frame:
        ok, data = self._capture.read()
        if (
            not ok or data is None or data.size == 0
        ):  # read() has been seen to succeed with nothing after an unplug
            if not Path(self._node).exists():
                raise DeviceError(
                    f"{self._path}: camera is gone", "check the cable", state="no_device"
                )
            raise DeviceError(
                f"{self._path}: no picture from the camera", "check the cable", state="no_signal"
            )
        if self._encoding == "mjpg":
            data = data.reshape(-1)
        elif self._encoding == "bgr":
            if data.shape[:2] != self._size:
                raise self._size_changed()
        else:
            data = self._raw(data)
        encoding = encoding_of(data) if self._encoding == "bgr" else self._encoding
        return Frame(data, encoding, time.monotonic(), time.time())

    def _raw(self, data: NDArray[Any]) -> NDArray[Any]:
        """The driver's bytes as (H, W, 2) uint8 YUYV, (H, W) uint8 grey or (H, W) uint16."""
        shape = (*self._size, 2) if self._encoding == "yuyv" else self._size
        dtype: np.dtype[Any] = np.dtype(np.uint16 if self._encoding == "y16" else np.uint8)
        if data.nbytes != math.prod(shape) * dtype.itemsize:
            raise self._size_changed()
        return data.reshape(-1).view(dtype).reshape(shape)

    def _size_changed(self) -> DeviceError:
        return DeviceError(f"{self._path}: its picture size changed", state="reconnecting")

    def close(self) -> None:
        self._capture.release()


def check_access(path: str, node: str) -> None:
    """OpenCV says only 'no': find out why first. Raises DeviceError."""
    try:
        fd = os.open(node, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        raise DeviceError(
            f"{path}: no such camera", "plug it in, or see edge-label doctor", state="no_device"
        ) from None
    except PermissionError:
        raise DeviceError(
            f"{path}: permission denied",
            "it belongs to group video: sudo usermod -aG video $USER, then log in again",
            state="denied",
        ) from None
    except OSError as error:
        if error.errno == errno.EBUSY:
            raise _busy(path, node) from None
        raise DeviceError(f"{path}: cannot open: {error.strerror}", state="no_device") from None
    try:
        if not v4l2_ioctl.capability(fd).captures:
            raise DeviceError(
                f"{path}: a video device, but no camera",
                "edge-label doctor lists cameras",
                state="no_signal",
            )
        if v4l2_ioctl.is_busy(fd):
            raise _busy(path, node)
    except OSError:
        raise DeviceError(
            f"{path}: not a video device", "edge-label doctor lists cameras", state="no_signal"
        ) from None
    finally:
        os.close(fd)


def _busy(path: str, node: str) -> DeviceError:
    who = (
        ", ".join(v4l2_ioctl.holders(node))
        or f"another user's program (sudo fuser -v {node} names it)"
    )
    return DeviceError(f"{path}: in use by {who}", "stop that first", state="busy")
