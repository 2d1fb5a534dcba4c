"""One line on a terminal that keeps changing: what the camera sees now, and what it costs."""

from __future__ import annotations

import os
import shutil
import signal
import sys
import time

from edge_runtime.errors import printable
from edge_runtime.records import LabelledFrame, LabelRecord

_INTERVAL_S = 0.1  # a person reads no faster


class ConsoleSink:
    """Rewrites the terminal's last line ten times a second."""

    name = "terminal"

    def __init__(self) -> None:
        self._next = 0.0

    def write(self, labelled: LabelledFrame) -> None:
        now = time.monotonic()
        if now >= self._next:
            self._next = now + _INTERVAL_S
            width = shutil.get_terminal_size().columns - 1
            self._say(f"\r\x1b[K{live_line(labelled.record)[:width]}")

    def close(self) -> None:
        self._say("\n")

    def _say(self, text: str) -> None:
        try:
            sys.stdout.write(text)
            sys.stdout.flush()
        except (
            OSError
        ):  # the terminal was closed: nobody looks any more, and somebody may want the camera
            os.kill(os.getpid(), signal.SIGTERM)


def live_line(record: LabelRecord) -> str:
    """``29.9 FPS  28.4 ms  88 MB  cat 0.82, kitchen 0.31`` or the reason why nothing is on."""
    on = [f"{label.name} {label.score:.2f}" for label in record.labels if label.on]
    best = f"{record.labels[0].name}? {record.labels[0].score:.2f}" if record.labels else ""
    why = record.state.replace("_", " ")
    if record.state == "stale" and record.camera_state:
        why = f"no picture, camera {record.camera_state.replace('_', ' ')}"
    what = ", ".join(on) if on else f"{why} {best}".rstrip()
    return printable(
        f"{record.fps:5.1f} FPS {record.ms.total:6.1f} ms {record.rss_mb:4.0f} MB  {what}"
    )
