"""The mistake that the watchdog's rule forbids: feeding it by a timer. Only a mutant uses this."""

from __future__ import annotations

import threading

from edge_runtime.daemon.notify import Notifier


def feed(notifier: Notifier) -> None:
    """Say every half second that all is well, whatever the rest of the process does."""

    def run() -> None:
        while not threading.Event().wait(0.5):
            notifier.alive("all is well")

    threading.Thread(target=run, daemon=True).start()
