"""How far a long job is, on stderr.

On a terminal it is a line that changes, in a log a line every ten seconds.
"""

from __future__ import annotations

import math
import shutil
import sys
import time
from typing import TextIO

_TERMINAL_S = 0.1
_LOG_S = 10.0
_BAR = 20  # characters


class Progress:
    """Counts to ``total``; rate and time left are of this run alone. ``quiet`` shows nothing."""

    def __init__(
        self, what: str, total: int, stream: TextIO | None = None, *, quiet: bool = False
    ) -> None:
        self.count = 0
        self._what = what
        self._total = total
        self._stream = stream or sys.stderr
        self._terminal = self._stream.isatty()
        self._start = time.monotonic()
        self._wrote = False

        # A terminal shows the first step at once. In a log, a short job shows nothing.
        if quiet:
            self._next = math.inf
        elif self._terminal:
            self._next = self._start
        else:
            self._next = self._start + _LOG_S

    def step(self) -> None:
        """One more is done."""
        self.count += 1
        now = time.monotonic()
        is_last = self.count == self._total
        if now >= self._next or (is_last and self._wrote):
            self._next = now + (_TERMINAL_S if self._terminal else _LOG_S)
            self._write(self.text(now))

    def text(self, now: float) -> str:
        """``1200/5000 pictures  24 %  [#####---------------]  88.2/s  0:43 left``."""
        share = self.count / max(1, self._total)
        rate = self.count / max(1e-9, now - self._start)
        left_s = round((self._total - self.count) / rate) if rate else 0

        bar = "#" * round(_BAR * share)
        return (
            f"{self.count}/{self._total} {self._what}  {100 * share:.0f} %  [{bar:-<{_BAR}}]  "
            f"{rate:.1f}/s  {_clock(left_s)} left"
        )

    def close(self) -> None:
        """Leave the terminal's line."""
        if self._terminal and self._wrote:
            self._stream.write("\n")
            self._stream.flush()

    def _write(self, text: str) -> None:
        if self._terminal:
            width = shutil.get_terminal_size().columns - 1
            self._stream.write(f"\r\x1b[K{text[:width]}")  # back to the margin, clear the line
        else:
            self._stream.write(f"edge-label: {text}\n")
        self._stream.flush()
        self._wrote = True


def _clock(seconds: int) -> str:
    """``0:43``, ``12:05`` or ``3:05:00``."""
    minutes = seconds // 60
    if minutes < 60:
        return f"{minutes}:{seconds % 60:02d}"
    return f"{minutes // 60}:{minutes % 60:02d}:{seconds % 60:02d}"
