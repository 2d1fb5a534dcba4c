"""Hosts, and the addresses that a server listens on, checked before anything uses them."""

from __future__ import annotations

import ipaddress
import re

from edge_runtime.errors import printable


def plain_name(text: str) -> str:
    """``text`` with letters, digits, ``-`` and ``_`` only: safe in topics, file names and URLs."""
    return re.sub(r"[^A-Za-z0-9_-]+", "-", text).strip("-")


def check_host(name: str, host: str) -> None:
    """Raise ValueError for anything but a host's name or IP address, with what to write instead."""
    _refuse_url(name, host)
    try:
        ipaddress.ip_address(host)
    except ValueError as error:
        if not _is_host_name(host):
            raise ValueError(
                f"{name} {host[:80]!r} cannot be the name of a host; write a name or an address"
            ) from error


def _refuse_url(name: str, host: str) -> None:
    """Raise ValueError for a URL, and say which of its parts belongs in which key."""
    scheme, separator, rest = host.rpartition("://")
    # The user is not repeated in the message: it may hold a password.
    _user, at, rest = rest.rpartition("@")
    place = rest.split("/", 1)[0]
    bare, port = _split_port(place)
    if not (separator or at or port or bare != place):
        return

    advice = [f"write host: {printable(bare)}"]
    if port:
        advice.append(f"port: {port}")
    if scheme.lower() in ("mqtts", "ssl", "tls"):
        advice.append("tls: true")
    if at:
        advice.append("user and password into credentials_file")
    raise ValueError(
        f"{name} is a name or an address, without scheme, port or user; {', '.join(advice)}"
    )


def _split_port(place: str) -> tuple[str, str]:
    """Host and port of ``x:1883`` or ``[::1]:1883``; an empty port where there is none.

    An IPv6 address without brackets has no port, for its colons are its own.
    """
    bracketed = re.fullmatch(r"\[([^\]]*)\](?::(\d*))?", place, re.ASCII)
    if bracketed:
        return bracketed[1], bracketed[2] or ""

    named = re.fullmatch(r"([^:]*):(\d{1,5})", place, re.ASCII)
    return (named[1], named[2]) if named else (place, "")


def _is_host_name(host: str) -> bool:
    """Whether a resolver takes the name.

    In IDNA's form a label has 1 to 63 bytes, and the whole name has at most 253.
    """
    if not host.isprintable() or re.search(r"[\s/\\:?#,;'\"<>\[\]]", host):
        return False
    try:
        return 0 < len(host.encode("idna")) <= 253
    except UnicodeError:
        return False


def parse_listen(listen: str) -> tuple[str, int]:
    """IP address and port of ``127.0.0.1:8080``, ``[::1]:8080`` or ``localhost:8080``.

    Raises ValueError.
    """
    host, _, port = listen.rpartition(":")
    host = "127.0.0.1" if host == "localhost" else host
    has_brackets = host.startswith("[") and host.endswith("]")
    bare = host[1:-1] if has_brackets else host

    try:
        address = ipaddress.ip_address(bare)
    except ValueError as error:
        raise ValueError(f"'{listen}' is not ADDRESS:PORT, such as 127.0.0.1:8080") from error

    is_port = port.isascii() and port.isdecimal() and int(port) < 65536
    if not is_port or has_brackets != (address.version == 6):
        raise ValueError(f"'{listen}' is not ADDRESS:PORT, such as 127.0.0.1:8080 or [::1]:8080")
    return bare, int(port)


def check_listen(section: str, listen: str, token_file: str | None) -> None:
    """Raise ValueError for an address that others can reach without a token."""
    host, _ = parse_listen(listen)
    if token_file is None and not ipaddress.ip_address(host).is_loopback:
        raise ValueError(
            f"{section}.listen {listen} can be reached by others, so it needs "
            f"{section}.token_file; or use 127.0.0.1 and an SSH tunnel"
        )
