"""A network stream, through FFmpeg, with time limits on opening and on every read.

Nothing here connects only to see whether the camera is there: for a server that takes one client
(``ffmpeg -listen 1``, ``rpicam-vid --listen``) that would be the client.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager

from edge_runtime.camera.pace import snapshot_interval_s
from edge_runtime.config import CameraConfig
from edge_runtime.errors import DeviceError, printable
from edge_runtime.records import Frame
from edge_runtime.secrecy import shown
from edge_runtime.system.opencv import cv2

log = logging.getLogger("edge_label.camera")

# For opening, and for every read. A camera whose camera.fps is low gets the time of three frames.
LIMIT_S = 4.0

# Between two tries to open. A stream shows in no other way that it is back, so this is short.
LONGEST_BACKOFF_S = 4.0

# What a stream is opened with; OpenCV hands it to FFmpeg. A user's own setting counts instead.
_OPTIONS = "OPENCV_FFMPEG_CAPTURE_OPTIONS"

# Each thread of the decoder after the first holds back a picture, which is 40 ms at 25 FPS; one
# thread alone may be too slow for a large picture. `python -m tools.measure.rtsp_latency` shows it.
DECODER_THREADS = 2

# A connection that brought fewer pictures before it fell silent may be a slow camera.
FEW = 5


class Stream:
    """The way to one stream. What it has learned of the camera's pace outlives each connection.

    A camera that sends a picture every ten seconds looks like one that stalls. Where a connection
    ends in silence before it brought more than a few pictures, the next one gets twice the time, up
    to most of ``camera.stuck_s``.
    """

    def __init__(self, url: str, config: CameraConfig, threads: int = DECODER_THREADS) -> None:
        self.url = url
        self._threads = threads
        self.name = shown(url)
        self.interval_s = snapshot_interval_s(config.fps, config.max_fps)
        self._first_limit_s = max(LIMIT_S, 3 / config.fps)
        self.limit_s = self._first_limit_s
        # Less than stuck_s: FFmpeg gives up before the process is taken for stuck.
        self._longest_limit_s = max(self.limit_s, 0.8 * config.stuck_s)
        self._snapshot_is_logged = False
        is_rtsp = url.lower().startswith(("rtsp:", "rtsps:"))
        self._transport = config.rtsp_transport if is_rtsp else None

    def open(self) -> StreamCamera:
        """Raises DeviceError."""
        return StreamCamera(self)

    def connect(self) -> cv2.VideoCapture:
        """One connection. Raises DeviceError when it brings no picture within the limit."""
        start = time.monotonic()
        limit_ms = int(self.limit_s * 1e3)
        options = [
            cv2.CAP_PROP_OPEN_TIMEOUT_MSEC,
            limit_ms,
            cv2.CAP_PROP_READ_TIMEOUT_MSEC,
            limit_ms,
            cv2.CAP_PROP_N_THREADS,
            self._threads,
        ]
        with _ffmpeg_options(self._transport):
            capture = cv2.VideoCapture(self.url, cv2.CAP_FFMPEG, options)
        if not capture.isOpened():
            took_s = time.monotonic() - start
            self.ended(0, took_s, took_s)
            raise DeviceError(
                f"{self.name}: stream does not open",
                f"check address, password and network{self._or_tcp}",
                state="no_device",
            )
        capture.set(cv2.CAP_PROP_BUFFERSIZE, 1)
        return capture

    @property
    def _or_tcp(self) -> str:
        """UDP is what firewalls and virtual networks drop without a word."""
        return ", or set camera.rtsp_transport: tcp" if self._transport == "udp" else ""

    def ended(self, pictures: int, lasted_s: float, silent_s: float) -> bool:
        """A connection brought ``pictures`` in ``lasted_s``, and none in the last ``silent_s``.

        Learns how much time the next connection gets. True where this one ended because its time
        was up.
        """
        in_silence = silent_s > 0.9 * self.limit_s  # FFmpeg's timeout is not exact
        if in_silence and pictures < FEW:
            self.limit_s = min(2 * self.limit_s, self._longest_limit_s)
        elif pictures >= max(FEW, lasted_s):  # a picture a second, or more: it is not slow
            self.limit_s = self._first_limit_s
        return in_silence

    def is_snapshot(self) -> None:
        """The address gives a single picture: log that once."""
        if not self._snapshot_is_logged:
            self._snapshot_is_logged = True
            log.info(
                "camera %s: gives one picture a connection; one is fetched every %g s",
                printable(self.name),
                self.interval_s,
            )


@contextmanager
def _ffmpeg_options(transport: str | None) -> Iterator[None]:
    """While this is entered, an RTSP stream opens over ``transport`` and as its newest picture.

    OpenCV knows no other way than the environment. Without nobuffer, FFmpeg first hands out the
    second of pictures that it looked at to learn the format.
    """
    if transport is None or _OPTIONS in os.environ:
        yield
        return
    os.environ[_OPTIONS] = f"rtsp_transport;{transport}|fflags;nobuffer|flags;low_delay"
    try:
        yield
    finally:
        del os.environ[_OPTIONS]


class StreamCamera:
    """An open stream. FFmpeg decodes inside ``grab``, so its frames arrive as BGR.

    Where the connection ends after a single picture, the address is one of snapshots. It is opened
    again in time for the next picture. That is no failure, and nothing to log.
    """

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self._connect()

    def _connect(self) -> None:
        self._opened = time.monotonic()
        self._capture = self._stream.connect()
        self._pictures = 0
        self._closed = False

    def grab(self) -> Frame | float:
        if self._closed:
            self._connect()
        start = time.monotonic()
        ok, data = self._capture.read()
        if ok and data is not None:
            self._pictures += 1
            return Frame(data, "bgr", time.monotonic(), time.time())

        return self._end_connection(silent_since=start)

    def _end_connection(self, silent_since: float) -> float:
        """How many seconds the next snapshot is away. Raises DeviceError for any other stream."""
        name = self._stream.name
        now = time.monotonic()
        silent_s = now - silent_since
        if self._stream.ended(self._pictures, now - self._opened, silent_s):
            raise DeviceError(f"{name}: no picture for {silent_s:.0f} s", state="reconnecting")
        if self._pictures != 1:
            raise DeviceError(f"{name}: stream stopped", state="reconnecting")

        self._stream.is_snapshot()
        self._capture.release()
        self._closed = True
        return max(0.0, self._opened + self._stream.interval_s - now)

    def close(self) -> None:
        self._capture.release()
