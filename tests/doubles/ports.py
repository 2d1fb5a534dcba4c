"""Ports of loopback, for tests and measurements."""

from __future__ import annotations

import socket


def free_port() -> int:
    """A TCP port that was free a moment ago."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])
