"""Messages to the service manager: sd_notify over a datagram socket, silent without a manager."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import socket

# A datagram for every frame would be noise. WatchdogSec is many times this.
_FEED_EVERY_S = 1.0


class Notifier:
    """Speaks to $NOTIFY_SOCKET, see sd_notify(3). A manager that went away is never an error."""

    def __init__(self) -> None:
        self._socket: socket.socket | None = None
        self._last_feed_s = float("-inf")

        address = os.environ.get("NOTIFY_SOCKET")
        if address:
            self._connect(address)

    def _connect(self, address: str) -> None:
        import socket

        # A leading @ stands for the zero byte of an abstract address, see unix(7).
        name = "\0" + address[1:] if address[0] == "@" else address
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
        self._socket.setblocking(False)
        try:
            self._socket.connect(name)
        except OSError:
            self._socket.close()
            self._socket = None

    def ready(self, status: str) -> None:
        """The model is loaded: start-up or a reload is over.

        Never waits for a camera, which may be plugged in next week.
        """
        self._send(f"READY=1\nSTATUS={status}")

    def alive(self, status: str) -> None:
        """Feeds the watchdog: a record was finished, or the wait for the camera goes on."""
        now = time.monotonic()
        if now - self._last_feed_s >= _FEED_EVERY_S:
            self._last_feed_s = now
            self._send(f"WATCHDOG=1\nSTATUS={status}")

    def reloading(self) -> None:
        """A reload has begun; ``ready`` ends it."""
        self._send(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def stopping(self, status: str) -> None:
        """The process is about to end."""
        self._send(f"STOPPING=1\nSTATUS={status}")

    def _send(self, message: str) -> None:
        if self._socket is None:
            return
        try:
            self._socket.send(message.encode())
        except OSError:
            pass
