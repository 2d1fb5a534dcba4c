"""One line on a terminal that keeps changing: what the camera sees now, and what it costs."""

from __future__ import annotations

import os
import shutil
import signal
import sys
import time

from edge_runtime.errors import printable
from edge_runtime.records import LabelledFrame, LabelRecord

_INTERVAL_S = 0.1  # nobody reads faster
_CLEAR_LINE = "\r\x1b[K"


class ConsoleSink:
    """Rewrites the terminal's last line ten times a second."""

    name = "terminal"

    def __init__(self) -> None:
        self._not_before_s = 0.0

    def write(self, labelled: LabelledFrame) -> None:
        """Show the record, unless the last one was shown a moment ago."""
        now_s = time.monotonic()
        if now_s < self._not_before_s:
            return
        self._not_before_s = now_s + _INTERVAL_S
        width = shutil.get_terminal_size().columns - 1
        self._print(_CLEAR_LINE + live_line(labelled.record)[:width])

    def close(self) -> None:
        """Leave the line, so that the shell's prompt begins a new one."""
        self._print("\n")

    def _print(self, text: str) -> None:
        try:
            sys.stdout.write(text)
            sys.stdout.flush()
        except OSError:
            # The terminal was closed. Nobody looks any more, and another program may want the
            # camera.
            os.kill(os.getpid(), signal.SIGTERM)


def live_line(record: LabelRecord) -> str:
    """``29.9 FPS  28.4 ms  88 MB  cat 0.82, kitchen 0.31``, or the reason why no label is on."""
    on = [f"{label.name} {label.score:.2f}" for label in record.labels if label.on]
    text = ", ".join(on) if on else _why_nothing_is_on(record)
    return printable(
        f"{record.fps:5.1f} FPS {record.ms.total:6.1f} ms {record.rss_mb:4.0f} MB  {text}"
    )


def _why_nothing_is_on(record: LabelRecord) -> str:
    """The state, and the label that came nearest: ``unknown kitchen? 0.31``."""
    reason = record.state.replace("_", " ")
    if record.state == "stale" and record.camera_state:
        reason = f"no picture, camera {record.camera_state.replace('_', ' ')}"
    if not record.labels:
        return reason
    best = record.labels[0]
    return f"{reason} {best.name}? {best.score:.2f}"
