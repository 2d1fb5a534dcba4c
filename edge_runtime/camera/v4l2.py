"""A V4L2 camera: found again under any number, opened in a format that the driver confirms.

Frames are read raw, so that a JPEG can be decoded later, at the size that is needed.
"""

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

# FOURCCs that are taken undecoded. Thermal, night-vision and depth cameras offer only GREY and Y16.
_ENCODINGS: dict[str, Encoding] = {"MJPG": "mjpg", "YUYV": "yuyv", "GREY": "grey", "Y16 ": "y16"}


class V4l2Path:
    """Where a camera is now.

    A by-id link is followed. Behind a bare /dev/videoN, the by-id link that leads there is
    remembered, so that a camera which returns as /dev/video1 is still the same camera.
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
        """``node`` has opened: the name means this camera from now on."""
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
    """An open V4L2 device; a Device.

    Raises DeviceError (no_device, denied, busy, no_signal) with what to do.
    """

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
        self._negotiate(config)

    def _negotiate(self, config: CameraConfig) -> None:
        """Agree on a format and a size; believe only what the driver reads back."""
        capture = self._capture
        fourccs = _PREFERRED if config.fourcc == "auto" else (config.fourcc.ljust(4),)
        fourcc = self._set_format(fourccs, config)
        capture.set(cv2.CAP_PROP_BUFFERSIZE, 1)
        height = int(capture.get(cv2.CAP_PROP_FRAME_HEIGHT))
        width = int(capture.get(cv2.CAP_PROP_FRAME_WIDTH))
        self._size = (height, width)

        self._encoding: Encoding = _ENCODINGS.get(fourcc, "bgr")
        if self._encoding != "bgr" and not capture.set(cv2.CAP_PROP_CONVERT_RGB, 0):
            self._encoding = "bgr"  # OpenCV insists on decoding

        name = self._path if self._path == self._node else f"{self._path} ({self._node})"
        log.info(
            "camera %s: asked for %s %dx%d at %g FPS, got %s %dx%d at %g FPS",
            name,
            "/".join(fourccs),
            config.width,
            config.height,
            config.fps,
            fourcc,
            width,
            height,
            capture.get(cv2.CAP_PROP_FPS),
        )

    def _set_format(self, fourccs: tuple[str, ...], config: CameraConfig) -> str:
        """Ask for each FOURCC until the driver takes one; returns the one that it has now."""
        capture = self._capture
        current = ""
        for fourcc in fourccs:
            # A new FOURCC may reset size and rate: set all of them each time, in this order.
            capture.set(cv2.CAP_PROP_FOURCC, cv2.VideoWriter.fourcc(*fourcc))
            capture.set(cv2.CAP_PROP_FRAME_WIDTH, config.width)
            capture.set(cv2.CAP_PROP_FRAME_HEIGHT, config.height)
            capture.set(cv2.CAP_PROP_FPS, config.fps)
            code = int(capture.get(cv2.CAP_PROP_FOURCC))
            current = code.to_bytes(4, "little").decode("ascii", "replace")
            if current == fourcc:
                break
        return current

    def grab(self) -> Frame:
        ok, data = self._capture.read()
        # After an unplug, read() has been seen to succeed with nothing.
        if not ok or data is None or data.size == 0:
            raise self._no_picture()

        if self._encoding == "mjpg":
            return Frame(data.reshape(-1), "mjpg", time.monotonic(), time.time())
        if self._encoding == "bgr":
            if data.shape[:2] != self._size:
                raise self._size_changed()
            return Frame(data, encoding_of(data), time.monotonic(), time.time())
        return Frame(self._raw(data), self._encoding, time.monotonic(), time.time())

    def _raw(self, data: NDArray[Any]) -> NDArray[Any]:
        """The driver's bytes as (H, W, 2) uint8 YUYV, (H, W) uint8 grey or (H, W) uint16."""
        shape = (*self._size, 2) if self._encoding == "yuyv" else self._size
        dtype: np.dtype[Any] = np.dtype(np.uint16 if self._encoding == "y16" else np.uint8)
        if data.nbytes != math.prod(shape) * dtype.itemsize:
            raise self._size_changed()
        return data.reshape(-1).view(dtype).reshape(shape)

    def _no_picture(self) -> DeviceError:
        advice = "check the cable"
        if not Path(self._node).exists():
            return DeviceError(f"{self._path}: camera is gone", advice, state="no_device")
        return DeviceError(f"{self._path}: no picture from the camera", advice, state="no_signal")

    def _size_changed(self) -> DeviceError:
        return DeviceError(f"{self._path}: its picture size changed", state="reconnecting")

    def close(self) -> None:
        self._capture.release()


def check_access(path: str, node: str) -> None:
    """Raise DeviceError with the reason why ``node`` cannot be opened: OpenCV tells none.

    ``path`` is the name that the user gave it.
    """
    try:
        fd = os.open(node, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise _refusal(path, node, error) from error

    try:
        captures = v4l2_ioctl.capability(fd).captures
        is_busy = captures and v4l2_ioctl.is_busy(fd)
    except OSError as error:
        raise DeviceError(
            f"{path}: not a video device", "edge-label doctor lists cameras", state="no_signal"
        ) from error
    finally:
        os.close(fd)

    if not captures:
        raise DeviceError(
            f"{path}: a video device, but no camera",
            "edge-label doctor lists cameras",
            state="no_signal",
        )
    if is_busy:
        raise _busy(path, node)


def _refusal(path: str, node: str, error: OSError) -> DeviceError:
    if error.errno == errno.ENOENT:
        return DeviceError(
            f"{path}: no such camera", "plug it in, or see edge-label doctor", state="no_device"
        )
    if error.errno in (errno.EACCES, errno.EPERM):
        return DeviceError(
            f"{path}: permission denied",
            "it belongs to group video: sudo usermod -aG video $USER, then log in again",
            state="denied",
        )
    if error.errno == errno.EBUSY:
        return _busy(path, node)
    return DeviceError(f"{path}: cannot open: {error.strerror}", state="no_device")


def _busy(path: str, node: str) -> DeviceError:
    programs = ", ".join(v4l2_ioctl.holders(node))
    unknown = f"another user's program (sudo fuser -v {node} names it)"
    return DeviceError(f"{path}: in use by {programs or unknown}", "stop that first", state="busy")
