"""The small server answers what it should and survives what it should not get."""

from __future__ import annotations

import http.client
import socket
import threading
import time
from pathlib import Path

import pytest

from edge_runtime.config import Config, parse_listen
from edge_runtime.errors import ConfigError
from edge_runtime.sinks.web import http as http_module
from edge_runtime.sinks.web.http import HttpServer
from edge_runtime.sinks.web.messages import Response
from edge_runtime.system import strict_yaml
from tests.daemon import wait_until

TOKEN = "0123456789abcdef"


@pytest.fixture
def server():
    running = HttpServer(
        "test", "127.0.0.1:0", {"/": lambda: Response(b"hello"), "/broken": lambda: 1 / 0}
    )
    yield running
    running.close()


def get(server: HttpServer, path: str = "/", **headers: str) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection(*server.address, timeout=10)
    connection.request("GET", path, headers=headers)
    answer = connection.getresponse()
    body = answer.read()
    connection.close()
    return answer.status, body


def raw(server: HttpServer, data: bytes, timeout_s: float = 10) -> bytes:
    """Everything the server says to these bytes, until it hangs up."""
    with socket.create_connection(server.address, timeout_s) as client:
        client.sendall(data)
        got = b""
        while chunk := client.recv(65536):
            got += chunk
        return got


def status(answer: bytes) -> int:
    return int(answer.split(b" ", 2)[1])


def test_a_path_that_is_there_is_answered_with_headers_that_keep_it_to_itself(server: HttpServer):
    answer = raw(server, b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 OK\r\n")
    assert body == b"hello"
    for line in (
        b"nosniff",
        b"no-referrer",
        b"Cross-Origin-Resource-Policy: same-origin",
        b"no-store",
    ):
        assert line in head
    assert b"Access-Control" not in head


def test_a_query_is_passed_over_and_head_has_no_body(server: HttpServer):
    assert get(server, "/?x=1") == (200, b"hello")
    answer = raw(server, b"HEAD / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
    assert answer.endswith(b"\r\n\r\n")
    assert b"Content-Length: 5" in answer


def test_one_connection_serves_many_requests_also_sent_at_once(server: HttpServer):
    one = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"
    last = b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    assert raw(server, one * 9 + last).count(b"hello") == 10


@pytest.mark.fault("N2")
@pytest.mark.parametrize(
    "path",
    [
        "/../etc/passwd",
        "/%2e%2e/%2e%2e/etc/passwd",
        "/..%2f..%2fetc/passwd",
        "//etc/passwd",
        "/./",
        "/etc/passwd%00",
    ],
)
def test_no_path_leads_to_a_file(server: HttpServer, path: str):
    assert get(server, path) == (404, b"404 Not Found\n")


@pytest.mark.fault("N2")
@pytest.mark.parametrize(
    ("request_bytes", "expected"),
    [
        (b"GET / HTTP/1.1\r\nHost: evil.example\r\n\r\n", 421),
        (b"GET / HTTP/1.1\r\nHost: evil.example:8080\r\n\r\n", 421),
        (b"GET / HTTP/1.1\r\nHost: 127.0.0.1.evil.example\r\n\r\n", 421),
        (b"GET / HTTP/1.1\r\nHost: 192.168.0.7:8080\r\n\r\n", 421),
        (b"GET / HTTP/1.1\r\n\r\n", 421),
        (b"GET / HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\n\r\n", 400),
        (b"GET http://evil.example/ HTTP/1.1\r\nHost: localhost\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n\r\nhello", 400),
        (b"POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
        (b"DELETE / HTTP/1.1\r\nHost: localhost\r\n\r\n", 405),
        (b"GET / HTTP/1.1\r\nHost: localhost\r\n folded: x\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: localhost\r\nbad header\r\n\r\n", 400),
        (b"GET  /  HTTP/1.1\r\n\r\n", 400),
        (b"GET / HTTP/2.0\r\n\r\n", 400),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", 400),
        (b"GET /\xff HTTP/1.1\r\nHost: localhost\r\n\r\n", 400),
        (b"GET /broken HTTP/1.1\r\nHost: localhost\r\n\r\n", 500),
        (b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"a" * 9000 + b"\r\n\r\n", 431),
        (b"GET /" + b"a" * 100_000, 431),
    ],
)
def test_what_is_wrong_is_refused_and_the_next_one_served(
    server: HttpServer, request_bytes: bytes, expected: int
):
    try:
        assert status(raw(server, request_bytes)) == expected
    except ConnectionResetError:  # hung up while we were still sending too much
        assert expected == 431
    assert get(server) == (200, b"hello")


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:9000", "127.0.0.1:1", "[::1]:8080"])
def test_every_name_of_this_machine_is_a_good_host(server: HttpServer, host: str):
    assert get(server, Host=host)[0] == 200


@pytest.mark.fault("N2")
def test_slow_clients_do_not_keep_others_out(server: HttpServer, monkeypatch: pytest.MonkeyPatch):
    """Slowloris: 60 connections that never finish a request."""
    slow = []
    for _ in range(60):
        client = socket.create_connection(server.address, 10)
        client.sendall(b"GET / HTTP/1.1\r\nHost: loc")
        slow.append(client)
    start = time.monotonic()
    assert get(server) == (200, b"hello")
    assert time.monotonic() - start < 2
    assert len(server._connections) <= http_module.MAX_CONNECTIONS
    for client in slow:
        client.close()


@pytest.mark.fault("N2")
def test_a_head_that_drips_is_cut_off_in_time(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(http_module, "HEAD_S", 0.5)
    server = HttpServer("test", "127.0.0.1:0", {})
    with socket.create_connection(server.address, 10) as client:
        start = time.monotonic()
        # Whichever byte comes too late.
        with pytest.raises(OSError, match=r"reset|pipe"):  # noqa: PT012
            for _ in range(200):
                client.sendall(b"X")
                time.sleep(0.05)
    assert time.monotonic() - start < 3
    server.close()


def test_a_client_that_does_not_take_its_answer_is_dropped_and_blocks_nobody(
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setattr(http_module, "SEND_S", 0.5)
    routes = {"/": lambda: Response(b"x" * 50_000_000), "/small": lambda: Response(b"ok")}
    server = HttpServer("test", "127.0.0.1:0", routes)
    with socket.create_connection(server.address, 10) as client:
        client.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        wait_until(lambda: server._connections, what="a connection that is served")
        assert get(server, "/small") == (200, b"ok")
        wait_until(lambda: not server._connections, what="the end of every connection")
    server.close()


ASK = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"


class Viewer:
    """One browser: a connection that stays, and asks again and again."""

    def __init__(self, server: HttpServer) -> None:
        self._connection = http.client.HTTPConnection(*server.address, timeout=10)

    def ask(self) -> http.client.HTTPResponse:
        self._connection.request("GET", "/")
        answer = self._connection.getresponse()
        answer.read()
        return answer

    def close(self) -> None:
        self._connection.close()


@pytest.mark.fault("K1")
def test_one_viewer_more_gets_503_at_once_and_costs_no_other_its_picture(
    server: HttpServer, monkeypatch: pytest.MonkeyPatch
):
    # A busy machine is no reason to lose a place here.
    monkeypatch.setattr(http_module, "PLACE_S", 600.0)
    viewers = [Viewer(server) for _ in range(http_module.PLACES)]
    for _ in range(3):
        assert {viewer.ask().status for viewer in viewers} == {200}
    for _ in range(80):  # more than there may be connections at all
        refused = Viewer(server).ask()
        assert (refused.status, refused.getheader("Retry-After")) == (503, str(http_module.RETRY_S))
        assert refused.getheader("Refresh") == str(http_module.RETRY_S), (
            "a browser comes back by itself"
        )
    assert {viewer.ask().status for viewer in viewers} == {200}

    viewers[0].close()
    wait_until(lambda: Viewer(server).ask().status == 200, what="the place of the one who left")


@pytest.mark.fault("K1")
def test_of_forty_viewers_at_once_every_request_is_answered(
    server: HttpServer, monkeypatch: pytest.MonkeyPatch
):
    """None is reset: viewers with a place get 200 and keep it, the others get 503."""
    monkeypatch.setattr(http_module, "PLACE_S", 600.0)
    answers: list[list[int]] = []

    def look() -> None:
        viewer = Viewer(server)
        answers.append([viewer.ask().status for _ in range(25)])
        all_have_asked.wait(30)
        viewer.close()

    all_have_asked = threading.Barrier(40)
    threads = [threading.Thread(target=look) for _ in range(40)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(answers) == 40
    assert {status for viewer in answers for status in viewer} == {200, 503}
    served = [viewer for viewer in answers if viewer[0] == 200]
    assert len(served) == http_module.PLACES
    assert served == [[200] * 25] * http_module.PLACES


@pytest.mark.fault("K1")
def test_a_viewer_on_a_slow_link_is_not_pushed_out_by_those_who_ask_nothing(
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setattr(http_module, "HEAD_S", 600.0)  # all of them may wait longer than the viewer
    server = HttpServer("test", "127.0.0.1:0", {"/": lambda: Response(b"x" * 50_000_000)})
    with socket.create_connection(server.address, 10) as viewer:
        viewer.sendall(ASK)
        got = len(viewer.recv(1000))
        silent = [
            socket.create_connection(server.address, 10)
            for _ in range(2 * http_module.MAX_CONNECTIONS)
        ]
        while chunk := viewer.recv(1 << 20):
            got += len(chunk)
            if got > 50_000_000:  # head and body
                break
    assert got > 50_000_000
    for client in silent:
        client.close()
    server.close()


@pytest.mark.fault("K1")
def test_who_asks_no_more_leaves_the_place_to_another(
    server: HttpServer, monkeypatch: pytest.MonkeyPatch
):
    viewers = [Viewer(server) for _ in range(http_module.PLACES)]
    for viewer in viewers:
        viewer.ask()
    monkeypatch.setattr(http_module, "PLACE_S", 0.0)
    assert Viewer(server).ask().status == 200
    assert viewers[0].ask().status == 200, "the connection was kept; only the place was lent"


@pytest.mark.fault("K1")
def test_who_knows_no_token_takes_no_place():
    server = HttpServer("test", "127.0.0.1:0", {"/": lambda: Response(b"hello")}, TOKEN)
    strangers = [Viewer(server) for _ in range(2 * http_module.PLACES)]
    assert {stranger.ask().status for stranger in strangers} == {401}
    assert get(server, Authorization=f"Bearer {TOKEN}") == (200, b"hello")
    server.close()


def test_the_log_keeps_no_query(server: HttpServer, caplog: pytest.LogCaptureFixture):
    assert get(server, "/broken?token=hunter2")[0] == 500
    assert "/broken failed" in caplog.text
    assert "hunter2" not in caplog.text


def test_many_clients_at_once_are_all_answered(server: HttpServer):
    got: list[tuple[int, bytes]] = []
    threads = [
        threading.Thread(target=lambda: got.extend(get(server) for _ in range(20)))
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert got == [(200, b"hello")] * 160


@pytest.mark.fault("N3")
def test_beyond_loopback_only_with_a_token_else_78(tmp_path: Path):
    for section in ("preview", "prometheus"):
        for address in ("0.0.0.0:8080", "[::]:8080", "192.168.0.7:8080"):
            with pytest.raises(ConfigError, match="token_file") as caught:
                strict_yaml.parse(f"{section}: {{listen: '{address}'}}", "x.yaml", Config)
            assert caught.value.exit_code == 78
            strict_yaml.parse(
                f"{section}: {{listen: '{address}', token_file: t}}", "x.yaml", Config
            )


@pytest.mark.parametrize(
    ("listen", "expected"),
    [
        ("127.0.0.1:80", ("127.0.0.1", 80)),
        ("[::1]:0", ("::1", 0)),
        ("localhost:8080", ("127.0.0.1", 8080)),
    ],
)
def test_addresses(listen: str, expected: tuple[str, int]):
    assert parse_listen(listen) == expected


@pytest.mark.parametrize(
    "listen",
    ["8080", "camera:80", "::1:80", "127.0.0.1", "127.0.0.1:", "1.2.3.4:99999", "[1.2.3.4]:1"],
)
def test_addresses_that_are_none(listen: str):
    with pytest.raises(ValueError, match="is not ADDRESS:PORT"):
        parse_listen(listen)
