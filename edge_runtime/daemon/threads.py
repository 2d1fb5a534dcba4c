"""A thread that an exception ended must end the process: nobody else would notice."""

from __future__ import annotations

import logging
import threading

from edge_runtime.errors import StuckError, one_line

log = logging.getLogger("edge_label")


class ThreadDeaths:
    """Notices any thread that an exception ended: a sink's, its server's, a library's.

    The dead thread's sink would write nothing more, in silence. A new process starts all of them
    again, so ``check`` ends this one.
    """

    def __init__(self) -> None:
        self.first = ""
        self._previous_hook = threading.excepthook
        threading.excepthook = self._note

    def check(self) -> None:
        """Raise StuckError once a thread has died."""
        if self.first:
            raise StuckError(
                self.first,
                "only a new process can help, and a report of this line would help us",
            )

    def close(self) -> None:
        """Give ``threading.excepthook`` back to its owner."""
        threading.excepthook = self._previous_hook

    def _note(self, death: threading.ExceptHookArgs) -> None:
        error = death.exc_value or death.exc_type()
        name = death.thread.name if death.thread else "unknown"

        # The first death is the cause; those that follow are often its effect.
        if not self.first:
            self.first = f"thread {name} died of {type(error).__name__}: {one_line(error)}"
        log.debug("where thread %s died", name, exc_info=error)
