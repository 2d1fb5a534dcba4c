"""An RTSP or HTTP stream, through FFmpeg, with time limits on opening and on every read."""

from __future__ import annotations

import time

from edge_runtime.errors import DeviceError
from edge_runtime.opencv import cv2
from edge_runtime.records import Frame
from edge_runtime.secrecy import shown

OPEN_TIMEOUT_MS = 4000
READ_TIMEOUT_MS = 4000  # both together stay under camera.stuck_s


class StreamCamera:
    """An open stream. FFmpeg decodes inside ``grab``, so its frames arrive as BGR."""

    def __init__(self, url: str) -> None:
        self._shown = shown(url)
        limits = [cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, OPEN_TIMEOUT_MS, cv2.CAP_PROP_READ_TIMEOUT_MSEC, READ_TIMEOUT_MS]
        self._capture = cv2.VideoCapture(url, cv2.CAP_FFMPEG, limits)
        if not self._capture.isOpened():
            raise DeviceError(f"{self._shown}: stream does not open; check address, password and network", "no_device")
        self._capture.set(cv2.CAP_PROP_BUFFERSIZE, 1)

    def grab(self) -> Frame:
        ok, data = self._capture.read()
        if not ok or data is None:
            raise DeviceError(f"{self._shown}: stream stopped", "reconnecting")
        return Frame(data, "bgr", time.monotonic(), time.time())

    def close(self) -> None:
        self._capture.release()


_PORTS = {"rtsp": 554, "rtsps": 322, "http": 80, "https": 443, "rtmp": 1935, "tcp": None}
_KNOCK_S = 1.0


def answers(url: str) -> bool | None:
    """Does anything listen at the stream's TCP port? None where the URL names no TCP port. Opens no stream."""
    import socket
    from urllib.parse import urlsplit

    try:
        parts = urlsplit(url)
        port = parts.port or _PORTS.get(parts.scheme)
        if port is None or parts.hostname is None:
            return None
        socket.create_connection((parts.hostname, port), _KNOCK_S).close()
    except (OSError, ValueError):
        return False
    return True
