"""The three signals that a daemon answers. Imports nothing heavy: the handlers stand before anything else is loaded."""

from __future__ import annotations

import signal
import time
from types import FrameType

_NAP_S = 0.2  # how late a sleep may notice that the end was asked for


class Signals:
    """SIGTERM and SIGINT ask for the end, SIGHUP for a reload. The handlers set flags and nothing else.

    Plain attributes: a handler runs in the middle of whatever the main thread does, and ``threading.Event`` has a lock
    that it would wait for without end where the main thread holds it.
    """

    def __init__(self) -> None:
        self.stop = False
        self.reload = False
        for number, handler in (
            (signal.SIGTERM, self._stop),
            (signal.SIGINT, self._stop),
            (signal.SIGHUP, self._reload),
        ):
            signal.signal(number, handler)

    def _stop(self, _number: int, _frame: FrameType | None) -> None:
        self.stop = True

    def _reload(self, _number: int, _frame: FrameType | None) -> None:
        self.reload = True

    def forget(self) -> None:
        """Let the signals do again what they do to any program, those that came meanwhile too."""
        for number in (signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        for number, came in ((signal.SIGTERM, self.stop), (signal.SIGHUP, self.reload)):
            if came:
                signal.raise_signal(number)

    def sleep_until(self, moment_s: float) -> None:
        """Wait until monotonic ``moment_s``, or until the end is asked for."""
        while not self.stop and (left_s := moment_s - time.monotonic()) > 0:
            time.sleep(min(left_s, _NAP_S))
