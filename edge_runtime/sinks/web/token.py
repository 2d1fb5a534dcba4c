"""The token that a viewer must know: read from a file, and compared with that of a request."""

from __future__ import annotations

import base64
from pathlib import Path

from edge_runtime.errors import ConfigError
from edge_runtime.secrecy import shown_file
from edge_runtime.system.digest import same_bytes
from edge_runtime.system.files import read_capped

MIN_TOKEN = 16  # characters; shorter ones can be guessed
MAX_TOKEN_FILE = 4096  # bytes; the path may lead to anything


def is_authorized(authorization: bytes, token: str) -> bool:
    """Whether an Authorization header carries ``token``, as Bearer or as Basic password."""
    scheme, _, credentials = authorization.partition(b" ")
    if scheme.lower() == b"basic":
        try:
            credentials = base64.b64decode(credentials, validate=True).partition(b":")[2]
        except ValueError:
            return False
    elif scheme.lower() != b"bearer":
        return False
    return same_bytes(credentials, token.encode())


def read_token(path: str | None) -> str | None:
    """The token in a file, None without a file.

    Raises ConfigError for a token that is short, and for a file that every user may read.
    """
    if path is None:
        return None
    try:
        if Path(path).stat().st_mode & 0o007:
            raise ConfigError(
                f"{path}: every user may read this token",
                "chmod 640 it, group video for the service",
            )
        token = read_capped(Path(path), MAX_TOKEN_FILE).decode("ascii").strip()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "not ASCII"
        advice = "the service's group is video" if isinstance(error, PermissionError) else ""
        what = f"{shown_file(path)}: cannot read the token: {reason}"
        # Not "from error": its message has the path, and somebody may have written the token there.
        raise ConfigError(what, advice) from None

    if len(token) < MIN_TOKEN or not token.isprintable() or " " in token:
        raise ConfigError(
            f"{path}: a token has at least {MIN_TOKEN} characters, no spaces",
            "try: openssl rand -hex 16",
        )
    return token
