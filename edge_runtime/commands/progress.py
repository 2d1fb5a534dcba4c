"""How far a long job is, on stderr: a line that changes on a terminal, a line every ten seconds in a log."""

from __future__ import annotations

import shutil
import sys
import time
from typing import TextIO

_TERMINAL_S, _LOG_S = 0.1, 10.0


class Progress:
    """Counts to ``total``; the rate and the time left are of this run alone. ``quiet`` shows nothing."""

    def __init__(
        self, what: str, total: int, stream: TextIO | None = None, *, quiet: bool = False
    ) -> None:
        self._what = what
        self._total = total
        self._stream = stream or sys.stderr
        self._terminal = self._stream.isatty()
        self._start = time.monotonic()
        self._next = self._start + (float("inf") if quiet else 0.0 if self._terminal else _LOG_S)
        self._wrote = False
        self.count = 0

    def step(self) -> None:
        """One more is done."""
        self.count += 1
        now = time.monotonic()
        if now >= self._next or (self.count == self._total and self._wrote):
            self._next = now + (_TERMINAL_S if self._terminal else _LOG_S)
            self._write(self.text(now))

    def text(self, now: float) -> str:
        """``1200/5000 pictures  24 %  [#####---------------]  88.2/s  0:43 left``"""
        share = self.count / max(1, self._total)
        rate = self.count / max(1e-9, now - self._start)
        left = round((self._total - self.count) / rate) if rate else 0
        bar = "#" * round(20 * share)
        clock = (
            f"{left // 3600}:{left // 60 % 60:02d}:{left % 60:02d}"
            if left >= 3600
            else f"{left // 60}:{left % 60:02d}"
        )
        return f"{self.count}/{self._total} {self._what}  {100 * share:.0f} %  [{bar:-<20}]  {rate:.1f}/s  {clock} left"

    def close(self) -> None:
        """Leave the terminal's line."""
        if self._terminal and self._wrote:
            self._stream.write("\n")
            self._stream.flush()

    def _write(self, text: str) -> None:
        if self._terminal:
            width = shutil.get_terminal_size().columns - 1
            self._stream.write(f"\r\x1b[K{text[:width]}")
        else:
            self._stream.write(f"edge-label: {text}\n")
        self._stream.flush()
        self._wrote = True
