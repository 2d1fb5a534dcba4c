"""How old an RTSP camera's pictures are when they arrive: ``python -m tools.measure.rtsp_latency``.

A real server (GStreamer's, from Debian's archive) sends H.264 of 320x240 at 25 FPS over loopback.
Each picture shows the clock at which it was taken. "as it was" opens the stream with OpenCV's own
settings. Milliseconds; the network, the sensor and the encoder of a real camera come on top.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Sequence

from edge_runtime.camera import stream
from edge_runtime.config import CameraConfig
from edge_runtime.system.opencv import cv2
from tests.doubles.rtsp_server import RtspServer, age_ms
from tools.lib import markdown
from tools.lib.command import run_verb, verb_parser

SECONDS = 8.0
SETTLED = 25  # pictures; those before are of the start


def _ages(capture: cv2.VideoCapture, seconds: float) -> list[float]:
    """The age of each picture, for ``seconds``."""
    ages = []
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        ok, picture = capture.read()
        if not ok:
            break
        ages.append(age_ms(picture))
    capture.release()
    return ages


def _as_it_was(url: str) -> cv2.VideoCapture:
    options = [cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, 8000, cv2.CAP_PROP_READ_TIMEOUT_MSEC, 8000]
    return cv2.VideoCapture(url, cv2.CAP_FFMPEG, options)


def _ours(url: str, transport: str, threads: int = stream.DECODER_THREADS) -> cv2.VideoCapture:
    config = CameraConfig(source=url, rtsp_transport=transport)  # type: ignore[arg-type]
    return stream.Stream(url, config, threads).connect()


def measure(seconds: float = SECONDS) -> str:
    """The table: a row for each way to open the stream."""
    rows = []
    with RtspServer() as server:
        ways = {
            "as it was": lambda: _as_it_was(server.url),
            "rtsp_transport: tcp": lambda: _ours(server.url, "tcp"),
            "rtsp_transport: udp": lambda: _ours(server.url, "udp"),
            "tcp, 1 thread decodes": lambda: _ours(server.url, "tcp", 1),
            "tcp, 4 threads decode": lambda: _ours(server.url, "tcp", 4),
        }
        for name, connect in ways.items():
            ages = _ages(connect(), seconds)
            settled = ages[SETTLED:] or ages
            figures = (ages[0], statistics.median(settled), max(settled))
            rows.append((name, *(f"{figure:.0f}" for figure in figures)))
    return markdown.table(("ms", "first picture", "median", "oldest"), rows, "lr")


def main(argv: Sequence[str] | None = None) -> int:
    """Print the table; returns the exit code."""
    parser = verb_parser("tools.measure.rtsp_latency", __doc__, whole=True)
    return run_verb(parser, lambda _: measure(), None if argv is None else list(argv))


if __name__ == "__main__":
    sys.exit(main())
