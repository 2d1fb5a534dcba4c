"""What the service manager is told: sd_notify over a datagram socket. Silent when nobody asked."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import socket

_FEED_EVERY_S = 1.0  # a datagram a frame would be noise; WatchdogSec is many times this


class Notifier:
    """Speaks to $NOTIFY_SOCKET (see sd_notify(3)). A manager that went away is never an error here."""

    def __init__(self) -> None:
        self._socket: socket.socket | None = None
        self._fed = float("-inf")
        address = os.environ.get("NOTIFY_SOCKET")
        if address:
            import socket

            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
            self._socket.setblocking(False)
            try:
                self._socket.connect("\0" + address[1:] if address[0] == "@" else address)
            except OSError:
                self._socket.close()
                self._socket = None

    def ready(self, status: str) -> None:
        """The model is loaded: start-up, or a reload, is over. Never waits for a camera, which may come next week."""
        self._send(f"READY=1\nSTATUS={status}")

    def alive(self, status: str) -> None:
        """A record was finished, or the camera is being waited for in good order. Feeds the watchdog."""
        now = time.monotonic()
        if now - self._fed >= _FEED_EVERY_S:
            self._fed = now
            self._send(f"WATCHDOG=1\nSTATUS={status}")

    def reloading(self) -> None:
        """A reload has begun; ``ready`` ends it."""
        self._send(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def stopping(self, status: str) -> None:
        """The process is on its way out."""
        self._send(f"STOPPING=1\nSTATUS={status}")

    def _send(self, message: str) -> None:
        if self._socket is not None:
            try:
                self._socket.send(message.encode())
            except OSError:
                pass
