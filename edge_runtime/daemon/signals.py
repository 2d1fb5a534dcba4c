"""The three signals that a daemon answers.

Imports nothing heavy: the handlers stand before anything else is loaded.
"""

from __future__ import annotations

import signal
import time
from types import FrameType

# How late a sleep may notice that the process should end.
_NAP_S = 0.2


class Signals:
    """SIGTERM and SIGINT ask for the end, SIGHUP asks for a reload.

    The handlers set flags and do nothing else. The flags are plain attributes: a handler runs
    in the middle of whatever the main thread does, and the lock of a ``threading.Event`` would
    block it for ever where the main thread holds that lock.
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
        """Restore the default actions, and apply them to the signals that have arrived."""
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.signal(signal.SIGHUP, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)

        if self.stop:
            signal.raise_signal(signal.SIGTERM)
        if self.reload:
            signal.raise_signal(signal.SIGHUP)

    def sleep_until(self, moment_s: float) -> None:
        """Wait until monotonic ``moment_s``, or until a signal asks for the end."""
        while not self.stop:
            left_s = moment_s - time.monotonic()
            if left_s <= 0:
                return
            time.sleep(min(left_s, _NAP_S))
