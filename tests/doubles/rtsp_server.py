"""Starts and ends the RTSP server of ``rtsp_camera.py``, which runs in the system's Python."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from tests.commands import missing
from tests.doubles import rtsp_camera
from tests.doubles.ports import free_port

PYTHON = "/usr/bin/python3"
PACKAGES = (
    "python3-gi gir1.2-gst-rtsp-server-1.0 gstreamer1.0-plugins-base gstreamer1.0-plugins-good "
    "gstreamer1.0-plugins-ugly"
)
_HAS_IT = (
    "import gi; gi.require_version('GstRtspServer', '1.0'); "
    "from gi.repository import Gst; Gst.init(None); "
    "assert all(map(Gst.ElementFactory.find, ('x264enc', 'rtph264pay', 'videoconvert')))"
)


def need_rtsp_server() -> None:
    """Skip for a user, and fail in CI, where GStreamer's server is not installed."""
    done = subprocess.run([PYTHON, "-c", _HAS_IT], capture_output=True, check=False)
    if done.returncode == 0:
        return
    missing(f"needs an RTSP server (apt-get install {PACKAGES})")


class RtspServer:
    """A camera at ``url``; ``stop`` and ``start`` take it away and bring it back."""

    def __init__(self) -> None:
        self._port = str(free_port())
        self.url = f"rtsp://127.0.0.1:{self._port}/cam"
        self._process: subprocess.Popen[str] | None = None

    def __enter__(self) -> RtspServer:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Returns when it listens."""
        command = [PYTHON, str(Path(rtsp_camera.__file__)), self._port]
        self._process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == "ready\n"

    def stop(self) -> None:
        """As a camera that loses its power: nobody hears a word."""
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None


def age_ms(picture: NDArray[Any]) -> float:
    """How long ago a picture (H, W, 3) of the server was taken, by the clock that it shows."""
    now_ms = int(time.monotonic() * 1e3)
    column = rtsp_camera.WIDTH // rtsp_camera.BITS
    levels = picture[rtsp_camera.HEIGHT // 2, column // 2 :: column, 1]
    shown_ms = int("".join("1" if level > 128 else "0" for level in levels), 2)
    return (now_ms - shown_ms) % (1 << rtsp_camera.BITS)
