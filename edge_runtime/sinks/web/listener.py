"""Listening sockets. During a reload two servers listen at the same address."""

from __future__ import annotations

import errno
import logging
import socket

from edge_runtime.errors import ConfigError

log = logging.getLogger("edge_label.http")

_IP_FREEBIND = 15  # <linux/in.h>; the socket module has no name for it
_BACKLOG = 64  # as many as the server holds open

# By address: the descriptor of every server there. All of them are the same socket.
_listening: dict[tuple[str, int], list[socket.socket]] = {}


def listen(what: str, host: str, port: int) -> socket.socket:
    """A listening socket that does not block. A server that is there already shares its own.

    Raises ConfigError when the address cannot be used. ``what`` names the server in messages.
    """
    shared = _listening.get((host, port))
    try:
        listener = shared[-1].dup() if shared else _open(what, host, port)
    except OSError as error:
        raise ConfigError(
            f"{what}: cannot listen at {host}:{port}: {error.strerror}", "choose another port"
        ) from error
    listener.setblocking(False)
    _listening.setdefault(_address(listener), []).append(listener)
    return listener


def close(listener: socket.socket) -> None:
    """Close what ``listen`` returned. Another server that shares the socket goes on listening."""
    _listening[_address(listener)].remove(listener)
    listener.close()


def _address(listener: socket.socket) -> tuple[str, int]:
    host, port = listener.getsockname()[:2]
    return host, port


def _open(what: str, host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        _bind(what, listener, host, port)
        listener.listen(_BACKLOG)
    except OSError:
        listener.close()
        raise
    return listener


def _bind(what: str, listener: socket.socket, host: str, port: int) -> None:
    """Bind, also to an address that this machine does not have yet.

    At boot the network may come after us, and labelling does not wait for it.
    """
    try:
        listener.bind((host, port))
    except OSError as error:
        if error.errno != errno.EADDRNOTAVAIL:
            raise
        log.warning(
            "%s: %s is not an address of this machine yet; the page opens when it is", what, host
        )
        listener.setsockopt(socket.IPPROTO_IP, _IP_FREEBIND, 1)
        listener.bind((host, port))
