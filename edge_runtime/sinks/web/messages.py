"""HTTP/1.1 messages: a request's head read, an answer written. No sockets and no routes here."""

from __future__ import annotations

import re
from dataclasses import dataclass
from http import HTTPStatus

_REQUEST_LINE = re.compile(rb"([A-Z]+) (/[!-~]*) HTTP/1\.([01])")
_HEADER = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([\t -~\x80-\xff]*?)[ \t]*")
_LENGTH = re.compile(rb"[0-9]{1,12}")
_SECURITY = (
    "X-Content-Type-Options: nosniff\r\n"
    "Referrer-Policy: no-referrer\r\n"
    "Cross-Origin-Resource-Policy: same-origin\r\n"
    "Cache-Control: no-store\r\n"
)


@dataclass(frozen=True, slots=True)
class Request:
    """What a request's head asks for.

    Attributes:
        path: Without the query, which nobody reads.
        host, origin: In lower case; empty without the header.
        length: Bytes of the body that follows.
        content_type: Without parameters.
        has_page_header: Whether it has the header that only our own page sends (`guard`).
    """

    method: str
    path: str
    host: str
    authorization: bytes
    keep_alive: bool
    origin: str = ""
    length: int = 0
    content_type: str = ""
    has_page_header: bool = False


@dataclass(frozen=True, slots=True)
class Response:
    """An answer. With ``close`` it is the last one on its connection."""

    body: bytes
    content_type: str = "text/plain; charset=utf-8"
    status: HTTPStatus = HTTPStatus.OK
    headers: tuple[str, ...] = ()
    close: bool = False


def parse_request(head: bytes) -> Request | None:
    """A request's head, without the empty line after it; None for one that is wrong.

    It is strict, because two programs that read one head differently can be played against each
    other: no header twice, no folded lines, no spaces where the standard has none.
    """
    line, *header_lines = head.split(b"\r\n")
    request_line = _REQUEST_LINE.fullmatch(line)
    if request_line is None:
        return None

    headers: dict[bytes, bytes] = {}
    for header_line in header_lines:
        match = _HEADER.fullmatch(header_line)
        if match is None or match[1].lower() in headers:
            return None
        headers[match[1].lower()] = match[2]
    length = headers.get(b"content-length", b"0")
    if b"transfer-encoding" in headers or _LENGTH.fullmatch(length) is None:
        return None

    method, target, minor_version = request_line.groups()
    if int(length) and method != b"POST":
        return None
    asks_to_close = headers.get(b"connection", b"").lower() == b"close"
    return Request(
        method=method.decode("ascii"),
        path=target.split(b"?", 1)[0].decode("ascii"),
        host=headers.get(b"host", b"").decode("latin-1").lower(),
        authorization=headers.get(b"authorization", b""),
        keep_alive=minor_version == b"1" and not asks_to_close,
        origin=headers.get(b"origin", b"").decode("latin-1").lower(),
        length=int(length),
        content_type=headers.get(b"content-type", b"").split(b";")[0].decode("latin-1").strip(),
        has_page_header=b"x-edge-label" in headers,
    )


def without_port(host: str) -> str:
    """The name or address in a Host header."""
    return re.sub(r":\d*$", "", host)


def error_response(status: HTTPStatus, *headers: str, close: bool = True) -> Response:
    """An answer that is nothing but its status."""
    body = f"{status.value} {status.phrase}\n".encode()
    return Response(body, status=status, headers=headers, close=close)


def encode(response: Response, *, keep_alive: bool, with_body: bool) -> bytes:
    """The bytes to send."""
    head = (
        f"HTTP/1.1 {response.status.value} {response.status.phrase}\r\n"
        f"Content-Type: {response.content_type}\r\n"
        f"Content-Length: {len(response.body)}\r\n"
        f"Connection: {'keep-alive' if keep_alive else 'close'}\r\n"
        f"{_SECURITY}"
    )
    head += "".join(f"{header}\r\n" for header in response.headers) + "\r\n"
    return head.encode("latin-1") + (response.body if with_body else b"")
