"""A port is shared over a reload, waited for at boot, and refused in one line when it is taken."""

from __future__ import annotations

import socket

import pytest

from edge_runtime.errors import ConfigError
from edge_runtime.sinks.web.http import HttpServer
from edge_runtime.sinks.web.messages import Response
from tests.unit.sinks.web.test_http import get


@pytest.fixture
def server():
    running = HttpServer("test", "127.0.0.1:0", {"/": lambda: Response(b"hello")})
    yield running
    running.close()


def test_a_taken_port_is_one_clear_line(server: HttpServer):
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        with pytest.raises(ConfigError, match="choose another port"):
            HttpServer("test", f"127.0.0.1:{other.getsockname()[1]}", {})


def test_an_address_that_the_machine_does_not_have_yet_stops_no_start(
    caplog: pytest.LogCaptureFixture,
):
    """At boot the service may start before the network; exit code 78 would keep it down."""
    for listen in ("203.0.113.7:0", "[2001:db8::7]:0"):
        HttpServer("preview", listen, {}).close()
    assert "203.0.113.7 is not an address of this machine yet" in caplog.text


def test_a_new_server_takes_over_the_port_before_the_old_one_closes(server: HttpServer):
    """What a reload does."""
    host, port = server.address
    new = HttpServer("test", f"{host}:{port}", {"/": lambda: Response(b"new")})
    server.close()
    assert [get(new) for _ in range(3)] == [(200, b"new")] * 3
    new.close()
    with pytest.raises(ConnectionRefusedError):
        get(new)


def test_a_new_server_that_is_given_up_leaves_the_port_to_the_next(server: HttpServer):
    """What a refused reload does, and the good one after it."""
    host, port = server.address
    HttpServer("test", f"{host}:{port}", {}).close()
    new = HttpServer("test", f"{host}:{port}", {"/": lambda: Response(b"new")})
    server.close()
    assert get(new) == (200, b"new")
    new.close()
