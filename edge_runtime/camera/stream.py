"""An RTSP or HTTP stream, through FFmpeg, with time limits on opening and on every read."""

from __future__ import annotations

import re
import time

from edge_runtime.errors import DeviceError
from edge_runtime.opencv import cv2
from edge_runtime.records import Frame

OPEN_TIMEOUT_MS = 5000
READ_TIMEOUT_MS = 5000


class StreamCamera:
    """An open stream. FFmpeg decodes inside ``grab``, so its frames arrive as BGR."""

    def __init__(self, url: str) -> None:
        self._shown = hide_password(url)
        limits = [cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, OPEN_TIMEOUT_MS, cv2.CAP_PROP_READ_TIMEOUT_MSEC, READ_TIMEOUT_MS]
        self._capture = cv2.VideoCapture(url, cv2.CAP_FFMPEG, limits)
        if not self._capture.isOpened():
            raise DeviceError(f"{self._shown}: stream does not open; check address, password and network", "no_device")
        self._capture.set(cv2.CAP_PROP_BUFFERSIZE, 1)

    def grab(self) -> Frame:
        ok, data = self._capture.read()
        if not ok or data is None:
            raise DeviceError(f"{self._shown}: stream stopped; reconnecting", "reconnecting")
        return Frame(data, "bgr", time.monotonic(), time.time())

    def close(self) -> None:
        self._capture.release()


def hide_password(url: str) -> str:
    """The URL without its password, for logs and records."""
    return re.sub(r"(://[^/@:]*):[^/@]*@", r"\1:***@", url)
