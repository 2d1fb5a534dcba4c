"""A V4L2 camera: negotiated honestly, read raw, so that JPEG decoding can wait and can be partial."""

from __future__ import annotations

import errno
import logging
import os
import time
from pathlib import Path

import numpy as np

from edge_runtime.config import CameraConfig
from edge_runtime.errors import DeviceError
from edge_runtime.opencv import cv2
from edge_runtime.records import Encoding, Frame

log = logging.getLogger("edge_label.camera")

_PREFERRED = ("MJPG", "YUYV")
# What is taken undecoded. GREY and Y16 are what thermal, night-vision and depth cameras offer, and nothing else.
_ENCODINGS: dict[str, Encoding] = {"MJPG": "mjpg", "YUYV": "yuyv", "GREY": "grey", "Y16 ": "y16"}


class V4l2Camera:
    """An open V4L2 device. Raises DeviceError (no_device, denied, busy, no_signal) with what to do."""

    def __init__(self, path: str, config: CameraConfig) -> None:
        self._path = path
        node = os.path.realpath(path)  # /dev/v4l/by-id/... names survive a camera that returns under a new number
        _check_access(path, node)
        self._capture = cv2.VideoCapture(node, cv2.CAP_V4L2)
        if not self._capture.isOpened():
            raise DeviceError(f"{path}: does not open as a camera; is it one? edge-label doctor tells", "no_signal")
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
            got = int(capture.get(cv2.CAP_PROP_FOURCC)).to_bytes(4, "little").decode("ascii", "replace")
            if got == fourcc:
                break
        capture.set(cv2.CAP_PROP_BUFFERSIZE, 1)
        self._size = (int(capture.get(cv2.CAP_PROP_FRAME_HEIGHT)), int(capture.get(cv2.CAP_PROP_FRAME_WIDTH)))
        encoding: Encoding = _ENCODINGS.get(got, "bgr")
        if encoding != "bgr" and not capture.set(cv2.CAP_PROP_CONVERT_RGB, 0):
            encoding = "bgr"
        log.info(
            "%s: asked for %s %dx%d at %d FPS, got %s %dx%d at %g FPS",
            *(self._path, "/".join(asked), config.width, config.height, config.fps),
            *(got, self._size[1], self._size[0], capture.get(cv2.CAP_PROP_FPS)),
        )
        return encoding

    def grab(self) -> Frame:
        ok, data = self._capture.read()
        if not ok or data is None or data.size == 0:
            if not Path(self._path).exists():
                raise DeviceError(f"{self._path}: camera is gone; check the cable", "no_device")
            raise DeviceError(f"{self._path}: no picture from the camera; check the cable", "no_signal")
        if self._encoding == "mjpg":
            data = data.reshape(-1)
        elif self._encoding == "yuyv" and data.ndim != 3:
            data = data.reshape(*self._size, 2)
        elif self._encoding in ("grey", "y16"):
            data = data.view(np.uint16 if self._encoding == "y16" else np.uint8).reshape(self._size)
        encoding = self._encoding
        if encoding == "bgr" and data.ndim == 2:
            encoding = "y16" if data.dtype == np.uint16 else "grey"
        return Frame(data, encoding, time.monotonic(), time.time())

    def close(self) -> None:
        self._capture.release()


def _check_access(path: str, node: str) -> None:
    """OpenCV says only 'no': find out why first."""
    try:
        os.close(os.open(node, os.O_RDWR | os.O_NONBLOCK))
    except FileNotFoundError:
        raise DeviceError(f"{path}: no such camera; plug it in, or see edge-label doctor", "no_device") from None
    except PermissionError:
        raise DeviceError(
            f"{path}: permission denied; sudo usermod -aG video $USER, then log in again", "denied"
        ) from None
    except OSError as error:
        if error.errno == errno.EBUSY:
            raise DeviceError(f"{path}: in use by another program; fuser -v {node} names it", "busy") from None
        raise DeviceError(f"{path}: cannot open: {error.strerror}", "no_device") from None
