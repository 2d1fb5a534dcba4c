"""What no source may do, for the mutant of C15: connect only to see whether a camera is there."""

from __future__ import annotations

import socket
from collections.abc import Callable
from urllib.parse import urlsplit


def on(url: str) -> Callable[[], bool]:
    """A presence that knocks."""

    def answers() -> bool:
        parts = urlsplit(url)
        try:
            socket.create_connection((str(parts.hostname), parts.port or 80), 1).close()
        except OSError:
            return False
        return True

    return answers
