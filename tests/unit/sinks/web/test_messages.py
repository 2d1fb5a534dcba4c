"""A request's head is read strictly; an answer says whether the connection stays."""

from __future__ import annotations

from http import HTTPStatus

import pytest

from edge_runtime.sinks.web.messages import Request, Response, encode, error_response, parse_request


def test_a_request_is_read_without_its_query():
    head = b"GET /state?token=hunter2 HTTP/1.1\r\nHost: LOCALHOST:8080\r\nAuthorization: Bearer x"
    assert parse_request(head) == Request("GET", "/state", "localhost:8080", b"Bearer x", True)


@pytest.mark.parametrize(
    ("head", "keep_alive"),
    [
        (b"GET / HTTP/1.1", True),
        (b"GET / HTTP/1.1\r\nConnection: Close", False),
        (b"GET / HTTP/1.0", False),
    ],
)
def test_a_connection_stays_unless_the_client_closes_it(head: bytes, keep_alive: bool):
    request = parse_request(head)
    assert request is not None
    assert request.keep_alive is keep_alive


@pytest.mark.parametrize(
    "head",
    [
        b"",
        b"GET /",
        b"GET / HTTP/1.1\r\nHost: a\r\nhost: b",
        b"GET / HTTP/1.1\r\nContent-Length: 1",
        b"GET / HTTP/1.1\r\nTransfer-Encoding: chunked",
        b"GET / HTTP/1.1\r\n folded: x",
    ],
)
def test_what_two_programs_could_read_differently_is_refused(head: bytes):
    assert parse_request(head) is None


def test_an_answer_to_head_announces_a_body_and_sends_none():
    data = encode(Response(b"hello"), keep_alive=True, with_body=False)
    assert b"Content-Length: 5\r\n" in data
    assert b"Connection: keep-alive\r\n" in data
    assert data.endswith(b"\r\n\r\n")


def test_an_error_is_its_status_as_text():
    response = error_response(HTTPStatus.NOT_FOUND, close=False)
    assert (response.body, response.close) == (b"404 Not Found\n", False)
