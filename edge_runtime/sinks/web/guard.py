"""What a request that changes something must prove: a person sent it, from the page that we serve.

Another web page can make a browser send us a POST, and the browser adds the token by itself. It
cannot make it send this header or a JSON body without asking us first, which we do not answer. With
DNS rebinding a page looks like ours, but only under a name: so we must be called by our address, or
by a name that is ours.
"""

from __future__ import annotations

import ipaddress
import socket
from http import HTTPStatus

from edge_runtime.sinks.web.messages import Request, Response, without_port

HEADER = "X-Edge-Label"  # any value will do
MAX_BODY = 256 * 1024  # bytes; 500 phrases of the usual length need a fifth of it


def refusal(request: Request) -> Response | None:
    """Why a POST is not taken, as an answer; None for one that is. It is known without the body."""
    if not is_own_name(request.host):
        return _refuse(
            HTTPStatus.MISDIRECTED_REQUEST,
            f"to change labels, open the page by the camera's address, or as {_host_name()}.local",
        )
    origin_scheme, _, origin_host = request.origin.partition("://")
    if origin_scheme not in ("http", "https") or origin_host != request.host:
        return _refuse(HTTPStatus.FORBIDDEN, "another web page may not change labels")
    if not request.has_page_header:
        return _refuse(HTTPStatus.FORBIDDEN, f"the header {HEADER} is missing")
    if request.content_type != "application/json":
        return _refuse(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "the body must be application/json")
    if request.length > MAX_BODY:
        return _refuse(
            HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
            f"more than {MAX_BODY >> 10} KB; edit so many labels in a file",
        )
    return None


def is_own_name(host: str) -> bool:
    """Whether a Host header is an address, localhost, or the name of this machine; any port."""
    name = without_port(host)
    try:
        ipaddress.ip_address(name.removeprefix("[").removesuffix("]"))
    except ValueError:
        own = _host_name()
        return name in ("localhost", own, f"{own}.local")
    return True


def _host_name() -> str:
    return socket.gethostname().lower()


def _refuse(status: HTTPStatus, text: str) -> Response:
    return Response(f"{text}\n".encode(), status=status, close=True)
