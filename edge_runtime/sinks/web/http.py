"""A small HTTP/1.1 server for the metrics and the page: GET, HEAD and POST of fixed paths.

One thread, which sleeps in select while nobody asks. The standard library's http.server costs 5 MB,
and a thread for each connection. What must not live here: anything that reads a file or a query,
and what a POST must prove (`guard`).

A viewer who is served keeps being served. A connection takes one of `PLACES` with its first good
answer and keeps it while it goes on asking. When all are taken, the next one gets 503 with
Retry-After at once. Connections without a place wait too, `MAX_CONNECTIONS` in all; past that the
one whose time ends first gives way to the new one.
"""

from __future__ import annotations

import ipaddress
import logging
import selectors
import socket
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus

from edge_runtime.config import parse_listen
from edge_runtime.sinks.web import guard, listener
from edge_runtime.sinks.web.messages import (
    Request,
    Response,
    encode,
    error_response,
    parse_request,
    without_port,
)
from edge_runtime.sinks.web.token import is_authorized

log = logging.getLogger("edge_label.http")

MAX_CONNECTIONS = 64  # open at once; the systemd unit allows 256 descriptors for everything
PLACES = 16  # viewers: a small processor answers so many 8 times a second beside its labelling
PLACE_S = 3.0  # a viewer's page asks 8 times a second, so one that is silent for so long has gone
RETRY_S = 5  # when a viewer without a place may try again; longer than PLACE_S
MAX_HEAD = 8192  # bytes of a request's head; what common web servers accept of one header
HEAD_S = 5.0  # to send the whole head: a client that drips it must not hold its connection
SEND_S = 10.0  # to take the answer: a picture of 100 KB passes a link of 80 kbit/s
BODY_S = 10.0  # to send the body of a POST
IDLE_S = 30.0  # between two requests: longer than the usual 15 s between Prometheus' scrapes

Route = Callable[[], Response]
PostRoute = Callable[[bytes], Response]

# Browsers obey Refresh and load the page again by themselves; Retry-After is for programs.
_FULL = Response(
    f"All {PLACES} places for viewers are taken. Trying again in {RETRY_S} seconds.\n".encode(),
    status=HTTPStatus.SERVICE_UNAVAILABLE,
    headers=(f"Retry-After: {RETRY_S}", f"Refresh: {RETRY_S}"),
    close=True,
)


@dataclass(slots=True, eq=False)
class _Connection:
    """One client: what it sent, what it still has to get, and when it is dropped."""

    socket: socket.socket
    deadline_s: float
    served_s: float = float("-inf")  # when a route answered it last
    received: bytearray = field(default_factory=bytearray)
    sends_body: bool = False  # its head is good, and a part of its body is still to come
    to_send: memoryview = field(default_factory=lambda: memoryview(b""))
    close_after: bool = False


class HttpServer:
    """Serves ``routes`` (exact paths) at ``listen`` (``127.0.0.1:8080``) until ``close``.

    With a token every request must carry it, as ``Authorization: Bearer TOKEN`` or as the password
    of Basic authentication. ``post_routes`` change something, so they need one. On a loopback
    address the Host header must name this machine, so that no web page can reach us by DNS
    rebinding.

    Raises ConfigError when the address is taken or cannot be used.
    """

    def __init__(
        self,
        what: str,
        listen: str,
        routes: Mapping[str, Route],
        token: str | None = None,
        post_routes: Mapping[str, PostRoute] | None = None,
    ) -> None:
        if post_routes and not token:
            raise ValueError(f"{what}: everybody could change something")
        self._what = what
        self._routes = routes
        self._post_routes = post_routes or {}
        self._token = token
        host, port = parse_listen(listen)
        self._hosts: set[str] | None = None
        if ipaddress.ip_address(host).is_loopback:
            self._hosts = {"localhost", "127.0.0.1", "[::1]", host, f"[{host}]"}

        self._listener = listener.listen(what, host, port)
        self.address: tuple[str, int] = self._listener.getsockname()[:2]
        self._wake, self._woken = socket.socketpair()  # how ``close`` ends the select
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._listener, selectors.EVENT_READ)
        self._selector.register(self._woken, selectors.EVENT_READ)
        self._connections: set[_Connection] = set()
        self._thread = threading.Thread(target=self._run, name=f"http-{what}", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop listening and drop every connection. A second call does nothing."""
        if self._thread.is_alive():
            self._wake.send(b"x")
            self._thread.join(2)

    def _run(self) -> None:
        while True:
            for key, _events in self._selector.select(self._next_deadline_in_s()):
                if key.fileobj is self._woken:
                    self._shut()
                    return
                if key.fileobj is self._listener:
                    self._accept()
                else:
                    self._serve(key.data)
            self._drop_late()

    def _next_deadline_in_s(self) -> float | None:
        if not self._connections:
            return None
        next_s = min(connection.deadline_s for connection in self._connections)
        return max(0.0, next_s - time.monotonic())

    def _drop_late(self) -> None:
        now_s = time.monotonic()
        late = [connection for connection in self._connections if connection.deadline_s <= now_s]
        for connection in late:
            self._drop(connection)

    def _accept(self) -> None:
        try:
            client, _address = self._listener.accept()
        except OSError:  # it has gone again, or we are out of descriptors: do not spin meanwhile
            time.sleep(0.01)
            return

        client.setblocking(False)
        if len(self._connections) >= MAX_CONNECTIONS:
            placed = self._placed()
            self._drop(min(self._connections - placed, key=lambda other: other.deadline_s))
        connection = _Connection(client, time.monotonic() + HEAD_S)
        self._connections.add(connection)
        self._selector.register(client, selectors.EVENT_READ, connection)

    def _placed(self) -> set[_Connection]:
        """The connections that have a place: they asked lately, or still take their answer."""
        since_s = time.monotonic() - PLACE_S
        return {
            connection
            for connection in self._connections
            if connection.served_s > since_s or (connection.to_send and connection.served_s > 0)
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
        """Take what has come, or send what can go. Never wait for either."""
        if connection not in self._connections:  # dropped earlier in the same round
            return
        try:
            if connection.to_send:
                self._send(connection)
            elif not self._receive(connection):
                return
            # One packet may hold several requests; each is answered before the next one is read.
            while self._answer_next(connection):
                self._send(connection)
        except BlockingIOError:
            pass
        except OSError:
            self._drop(connection)

    def _receive(self, connection: _Connection) -> bool:
        """False when the client has closed the connection."""
        data = connection.socket.recv(MAX_HEAD)
        if not data:
            self._drop(connection)
            return False
        connection.received += data
        return True

    def _answer_next(self, connection: _Connection) -> bool:
        """Turn the next complete request into bytes to send; False while there is none."""
        if connection.to_send or connection not in self._connections:
            return False
        head, end, rest = bytes(connection.received).partition(b"\r\n\r\n")
        if not end and len(head) <= MAX_HEAD:
            return False

        request = parse_request(head) if len(head) <= MAX_HEAD else None
        if request is None:
            status = HTTPStatus.BAD_REQUEST
            if len(head) > MAX_HEAD:
                status = HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE
            self._reply(connection, error_response(status), None, rest)
            return True

        refused = self._refuse(request, connection)
        length = 0 if refused else request.length
        if len(rest) < length:
            self._wait_for_body(connection)
            return False
        response = refused or self._respond(request, rest[:length], connection)
        self._reply(connection, response, request, rest[length:])
        return True

    def _reply(
        self, connection: _Connection, response: Response, request: Request | None, rest: bytes
    ) -> None:
        """Make the answer the next thing to send. ``rest`` is what came after the request."""
        keep_alive = request is not None and request.keep_alive and not response.close
        with_body = request is None or request.method != "HEAD"
        data = encode(response, keep_alive=keep_alive, with_body=with_body)
        connection.received = bytearray(rest)
        connection.sends_body = False
        connection.close_after = not keep_alive
        connection.deadline_s = time.monotonic() + SEND_S
        connection.to_send = memoryview(data)
        self._selector.modify(connection.socket, selectors.EVENT_WRITE, connection)

    def _send(self, connection: _Connection) -> None:
        sent = connection.socket.send(connection.to_send)
        connection.to_send = connection.to_send[sent:]
        if connection.to_send:
            return
        if connection.close_after:
            self._drop(connection)
            return
        connection.deadline_s = time.monotonic() + IDLE_S
        self._selector.modify(connection.socket, selectors.EVENT_READ, connection)

    def _wait_for_body(self, connection: _Connection) -> None:
        if not connection.sends_body:
            connection.sends_body = True
            connection.deadline_s = time.monotonic() + BODY_S

    def _refuse(self, request: Request, connection: _Connection) -> Response | None:
        """Why a request is not answered, known without its body; None for a good one."""
        is_post = request.method == "POST" and request.path in self._post_routes
        if request.length and not is_post:
            return error_response(HTTPStatus.BAD_REQUEST)
        if not self._host_is_ours(request.host):
            return error_response(HTTPStatus.MISDIRECTED_REQUEST)
        if self._token and not is_authorized(request.authorization, self._token):
            challenge = 'WWW-Authenticate: Basic realm="edge-label"'
            # What follows would be the body, and not the next request.
            return error_response(HTTPStatus.UNAUTHORIZED, challenge, close=bool(request.length))
        if is_post:
            return guard.refusal(request) or self._full(connection)

        if request.method not in ("GET", "HEAD"):
            allowed = "POST" if request.path in self._post_routes else "GET, HEAD"
            return error_response(HTTPStatus.METHOD_NOT_ALLOWED, f"Allow: {allowed}")
        if request.path not in self._routes:
            return error_response(HTTPStatus.NOT_FOUND, close=False)
        return self._full(connection)

    def _full(self, connection: _Connection) -> Response | None:
        return None if self._has_place(connection) else _FULL

    def _respond(self, request: Request, body: bytes, connection: _Connection) -> Response:
        """The answer to a good request."""
        connection.served_s = time.monotonic()
        try:
            if request.method == "POST":
                return self._post_routes[request.path](body)
            return self._routes[request.path]()
        except Exception:
            log.exception("%s: %s failed", self._what, request.path)
            return error_response(HTTPStatus.INTERNAL_SERVER_ERROR)

    def _host_is_ours(self, host: str) -> bool:
        if self._hosts is None:
            return True
        # Any port will do: a tunnel changes it.
        return without_port(host) in self._hosts

    def _shut(self) -> None:
        for connection in list(self._connections):
            self._drop(connection)
        self._selector.close()
        listener.close(self._listener)
        self._wake.close()
        self._woken.close()
