"""A POST is taken only from a page that this machine served under a name of its own."""

from __future__ import annotations

import socket
from dataclasses import replace
from http import HTTPStatus

import pytest

from edge_runtime.sinks.web import guard
from edge_runtime.sinks.web.messages import Request

GOOD = Request(
    method="POST",
    path="/labels",
    host="192.168.0.7:8080",
    authorization=b"",
    keep_alive=True,
    origin="http://192.168.0.7:8080",
    length=guard.MAX_BODY,
    content_type="application/json",
    has_page_header=True,
)


def test_the_page_itself_is_not_refused():
    assert guard.refusal(GOOD) is None
    # A proxy that adds TLS and passes the name on.
    assert guard.refusal(replace(GOOD, origin="https://192.168.0.7:8080")) is None


@pytest.mark.fault("E1")
@pytest.mark.parametrize(
    ("changes", "status"),
    [
        ({"origin": ""}, HTTPStatus.FORBIDDEN),
        ({"origin": "null"}, HTTPStatus.FORBIDDEN),
        ({"origin": "http://192.168.0.7"}, HTTPStatus.FORBIDDEN),
        ({"origin": "file://192.168.0.7:8080"}, HTTPStatus.FORBIDDEN),
        ({"has_page_header": False}, HTTPStatus.FORBIDDEN),
        ({"content_type": "text/plain"}, HTTPStatus.UNSUPPORTED_MEDIA_TYPE),
        ({"length": guard.MAX_BODY + 1}, HTTPStatus.REQUEST_ENTITY_TOO_LARGE),
        ({"host": "evil.example", "origin": "http://evil.example"}, HTTPStatus.MISDIRECTED_REQUEST),
    ],
)
def test_each_proof_that_is_missing_refuses_and_ends_the_connection(
    changes: dict[str, object], status: HTTPStatus
):
    answer = guard.refusal(replace(GOOD, **changes))
    assert answer is not None
    assert (answer.status, answer.close) == (status, True)
    assert answer.body.count(b"\n") == 1


def test_own_names(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(socket, "gethostname", lambda: "Porch")
    for host in ("localhost:1", "127.0.0.1", "[::1]:8080", "10.0.0.7:80", "porch", "porch.local:9"):
        assert guard.is_own_name(host), host
    for host in ("", "porch.evil.example", "127.0.0.1.evil.example", "localhost.evil", "local"):
        assert not guard.is_own_name(host), host
