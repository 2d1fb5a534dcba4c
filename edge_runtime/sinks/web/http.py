"""A small HTTP/1.1 server for the metrics and the preview page: GET and HEAD of a fixed list of paths.

One thread, sleeping in select while nobody asks. The standard library's http.server costs 5 MB and a thread a
connection. What must not live here: anything that reads a file, a body or a query. Limits: ``MAX_HEAD`` bytes of
request, ``HEAD_S`` seconds to send it, ``SEND_S`` to take the answer.

Who is served keeps being served. A connection takes one of ``PLACES`` with its first good answer and keeps it while
it goes on asking; when all are taken, whoever comes next gets 503 with Retry-After at once. Connections without a
place may be ``MAX_CONNECTIONS`` in all; past that the one that has waited longest gives way to the new one.
"""

from __future__ import annotations

import base64
import errno
import ipaddress
import logging
import re
import selectors
import socket
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path

from edge_runtime.config import parse_listen
from edge_runtime.errors import ConfigError
from edge_runtime.secrecy import shown_file
from edge_runtime.system.digest import same_bytes
from edge_runtime.system.files import read_capped

log = logging.getLogger("edge_label.http")

MAX_CONNECTIONS = 64  # open at once; the unit allows 256 descriptors
PLACES = (
    16  # served at once: what a small processor answers eight times a second beside its labelling
)
PLACE_S = 3.0  # a connection that asked nothing for so long leaves its place to another
RETRY_S = 5
MAX_HEAD = 8192
HEAD_S = 5.0
IDLE_S = 30.0
SEND_S = 10.0
MIN_TOKEN = 16
_TOKEN_BYTES = 4096
_IP_FREEBIND = 15  # <linux/in.h>; the socket module does not name it

_REQUEST_LINE = re.compile(rb"([A-Z]+) (/[!-~]*) HTTP/1\.([01])")
_HEADER = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([\t -~\x80-\xff]*?)[ \t]*")
_SECURITY = (
    "X-Content-Type-Options: nosniff\r\n"
    "Referrer-Policy: no-referrer\r\n"
    "Cross-Origin-Resource-Policy: same-origin\r\n"
    "Cache-Control: no-store\r\n"
)

_listening: dict[
    tuple[str, int], list[socket.socket]
] = {}  # by address: every server's own descriptor


@dataclass(frozen=True, slots=True)
class Response:
    """What a path answers: 200 with a body, unless said otherwise."""

    body: bytes
    content_type: str = "text/plain; charset=utf-8"
    status: HTTPStatus = HTTPStatus.OK
    headers: tuple[str, ...] = ()


Route = Callable[[], Response]


@dataclass(slots=True, eq=False)
class _Connection:
    """One client: what came in, what still has to go out, and when patience ends."""

    socket: socket.socket
    deadline: float
    served_s: float = float("-inf")  # when it last got what a path answers
    received: bytearray = field(default_factory=bytearray)
    to_send: memoryview = field(default_factory=lambda: memoryview(b""))
    close_after: bool = False


class HttpServer:
    """Serves ``routes`` (exact paths) at ``listen`` (``127.0.0.1:8080``) until ``close``.

    Raises ConfigError when the address is taken or not ours. With a token every request must carry it, as
    ``Authorization: Bearer TOKEN`` or as the password of Basic authentication. On a loopback address the Host header
    must name this machine, so that no web page can reach us by DNS rebinding.
    """

    def __init__(
        self, what: str, listen: str, routes: Mapping[str, Route], token: str | None = None
    ) -> None:
        self._what = what
        self._routes = routes
        self._token = token
        host, port = parse_listen(listen)
        loopback = ipaddress.ip_address(host).is_loopback
        self._hosts = {"localhost", "127.0.0.1", "[::1]", host, f"[{host}]"} if loopback else None
        self._listener = _listen(what, host, port)
        self.address: tuple[str, int] = self._listener.getsockname()[:2]
        self._wake, self._woken = socket.socketpair()
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._listener, selectors.EVENT_READ)
        self._selector.register(self._woken, selectors.EVENT_READ)
        self._connections: set[_Connection] = set()
        self._thread = threading.Thread(target=self._run, name=f"http-{what}", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop listening and drop every connection; idempotent."""
        if self._thread.is_alive():
            self._wake.send(b"x")
            self._thread.join(2)

    def _run(self) -> None:
        while True:
            soonest = min((c.deadline for c in self._connections), default=None)
            timeout = None if soonest is None else max(0.0, soonest - time.monotonic())
            for key, _events in self._selector.select(timeout):
                if key.fileobj is self._woken:
                    self._shut()
                    return
                if key.fileobj is self._listener:
                    self._accept()
                else:
                    self._serve(key.data)
            now = time.monotonic()
            for connection in [c for c in self._connections if c.deadline <= now]:
                self._drop(connection)

    def _accept(self) -> None:
        try:
            client, _address = self._listener.accept()
        except OSError:  # gone again, or out of descriptors: there will be a next one
            time.sleep(0.01)
            return
        client.setblocking(False)
        if len(self._connections) >= MAX_CONNECTIONS:
            placed = self._placed()
            self._drop(min(self._connections - placed, key=lambda c: c.deadline))
        connection = _Connection(client, time.monotonic() + HEAD_S)
        self._connections.add(connection)
        self._selector.register(client, selectors.EVENT_READ, connection)

    def _placed(self) -> set[_Connection]:
        """The connections that are being served: they asked lately, or are still taking their answer."""
        lately = time.monotonic() - PLACE_S
        return {
            c for c in self._connections if c.served_s > lately or (c.to_send and c.served_s > 0)
        }

    def _has_place(self, connection: _Connection) -> bool:
        others = self._placed() - {connection}
        return len(others) < PLACES

    def _drop(self, connection: _Connection) -> None:
        if connection in self._connections:
            self._connections.remove(connection)
            self._selector.unregister(connection.socket)
            connection.socket.close()

    def _serve(self, connection: _Connection) -> None:
        """Take what has come, or send what can go; never wait for either."""
        if connection not in self._connections:  # dropped earlier in the same round
            return
        try:
            if connection.to_send:
                self._send(connection)
            else:
                data = connection.socket.recv(MAX_HEAD)
                if not data:
                    self._drop(connection)
                    return
                connection.received += data
            while (
                not connection.to_send
                and connection in self._connections
                and self._answer(connection)
            ):
                self._send(connection)
        except BlockingIOError:
            pass
        except OSError:
            self._drop(connection)

    def _answer(self, connection: _Connection) -> bool:
        """Turn a complete request head into bytes to send; False while it is incomplete."""
        head, end, rest = bytes(connection.received).partition(b"\r\n\r\n")
        if not end and len(head) <= MAX_HEAD:
            return False
        if len(head) > MAX_HEAD:
            response, keep, with_body = (
                _error(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE),
                False,
                True,
            )
        else:
            response, keep, with_body = self._respond(head, connection)
        connection.received = bytearray(rest)
        connection.close_after = not keep
        connection.deadline = time.monotonic() + SEND_S
        connection.to_send = memoryview(_encode(response, keep=keep, with_body=with_body))
        self._selector.modify(connection.socket, selectors.EVENT_WRITE, connection)
        return True

    def _send(self, connection: _Connection) -> None:
        connection.to_send = connection.to_send[connection.socket.send(connection.to_send) :]
        if not connection.to_send:
            if connection.close_after:
                self._drop(connection)
                return
            connection.deadline = time.monotonic() + IDLE_S
            self._selector.modify(connection.socket, selectors.EVENT_READ, connection)

    def _respond(self, head: bytes, connection: _Connection) -> tuple[Response, bool, bool]:
        """(answer, keep the connection, send the body) for one request head."""
        line, *rest = head.split(b"\r\n")
        request = _REQUEST_LINE.fullmatch(line)
        headers: dict[bytes, bytes] = {}
        for raw in rest:
            match = _HEADER.fullmatch(raw)
            if match is None or match[1].lower() in headers:
                return _error(HTTPStatus.BAD_REQUEST), False, True
            headers[match[1].lower()] = match[2]
        if (
            request is None
            or b"transfer-encoding" in headers
            or headers.get(b"content-length", b"0") != b"0"
        ):
            return _error(HTTPStatus.BAD_REQUEST), False, True
        method, target, minor = request.groups()
        keep = minor == b"1" and headers.get(b"connection", b"").lower() != b"close"
        with_body = method != b"HEAD"
        if not self._host_is_ours(headers.get(b"host")):
            return _error(HTTPStatus.MISDIRECTED_REQUEST), False, with_body
        if self._token and not _authorized(headers.get(b"authorization", b""), self._token):
            return (
                _error(HTTPStatus.UNAUTHORIZED, 'WWW-Authenticate: Basic realm="edge-label"'),
                keep,
                with_body,
            )
        if method not in (b"GET", b"HEAD"):
            return _error(HTTPStatus.METHOD_NOT_ALLOWED, "Allow: GET, HEAD"), False, True
        path = target.split(b"?", 1)[0].decode(
            "ascii"
        )  # the query is nobody's business, not even the log's
        route = self._routes.get(path)
        if route is None:
            return _error(HTTPStatus.NOT_FOUND), keep, with_body
        if not self._has_place(connection):
            return _FULL, False, with_body
        connection.served_s = time.monotonic()
        try:
            return route(), keep, with_body
        except Exception:
            log.exception("%s: %s failed", self._what, path)
            return _error(HTTPStatus.INTERNAL_SERVER_ERROR), False, with_body

    def _host_is_ours(self, value: bytes | None) -> bool:
        if self._hosts is None:
            return True
        name = re.sub(
            r":\d*$", "", (value or b"").decode("latin-1").lower()
        )  # any port: tunnels change it
        return name in self._hosts

    def _shut(self) -> None:
        for connection in list(self._connections):
            self._drop(connection)
        _listening[self.address].remove(self._listener)
        for part in (self._selector, self._listener, self._wake, self._woken):
            part.close()


def _listen(what: str, host: str, port: int) -> socket.socket:
    """A listening socket. A reload makes the new server before it closes the old: it then shares the old socket."""
    held = _listening.get((host, port))
    try:
        if held:
            listener = held[-1].dup()
        else:
            listener = socket.socket(
                socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM
            )
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            _bind(what, listener, host, port)
            listener.listen(64)
    except OSError as error:
        raise ConfigError(
            f"{what}: cannot listen at {host}:{port}: {error.strerror}", "choose another port"
        ) from None
    listener.setblocking(False)
    _listening.setdefault(listener.getsockname()[:2], []).append(listener)
    return listener


def _bind(what: str, listener: socket.socket, host: str, port: int) -> None:
    """Bind, also to an address that the network gives this machine only later: labelling does not wait for it."""
    try:
        listener.bind((host, port))
    except OSError as error:
        if error.errno != errno.EADDRNOTAVAIL:
            raise
        log.warning(
            "%s: %s is no address of this machine yet; the page is there once it is", what, host
        )
        listener.setsockopt(socket.IPPROTO_IP, _IP_FREEBIND, 1)
        listener.bind((host, port))


def _error(status: HTTPStatus, *headers: str) -> Response:
    return Response(f"{status.value} {status.phrase}\n".encode(), status=status, headers=headers)


# A person's browser loads the page again by itself: Refresh is for those, Retry-After for programs.
_FULL = Response(
    f"All {PLACES} places for viewers are taken. Trying again in {RETRY_S} seconds.\n".encode(),
    status=HTTPStatus.SERVICE_UNAVAILABLE,
    headers=(f"Retry-After: {RETRY_S}", f"Refresh: {RETRY_S}"),
)


def _encode(response: Response, *, keep: bool, with_body: bool) -> bytes:
    more = "".join(f"{line}\r\n" for line in response.headers)
    head = (
        f"HTTP/1.1 {response.status.value} {response.status.phrase}\r\n"
        f"Content-Type: {response.content_type}\r\n"
        f"Content-Length: {len(response.body)}\r\n"
        f"Connection: {'keep-alive' if keep else 'close'}\r\n"
        f"{_SECURITY}{more}\r\n"
    )
    return head.encode("latin-1") + (response.body if with_body else b"")


def _authorized(value: bytes, token: str) -> bool:
    scheme, _, given = value.partition(b" ")
    if scheme.lower() == b"basic":
        try:
            given = base64.b64decode(given, validate=True).partition(b":")[2]
        except ValueError:
            return False
    elif scheme.lower() != b"bearer":
        return False
    return same_bytes(given, token.encode())


def read_token(path: str | None) -> str | None:
    """The token in a file, None without a file. Raises ConfigError for one that is short or readable by everybody."""
    if path is None:
        return None
    try:
        if Path(path).stat().st_mode & 0o007:
            raise ConfigError(
                f"{path}: every user may read this token",
                "chmod 640 it, group video for the service",
            )
        token = read_capped(Path(path), _TOKEN_BYTES).decode("ascii").strip()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "not ASCII"
        advice = "; the service's group is video" if isinstance(error, PermissionError) else ""
        raise ConfigError(f"{shown_file(path)}: cannot read the token: {reason}{advice}") from None
    if len(token) < MIN_TOKEN or not token.isprintable() or " " in token:
        raise ConfigError(
            f"{path}: a token has at least {MIN_TOKEN} characters, no spaces",
            "try: openssl rand -hex 16",
        )
    return token
