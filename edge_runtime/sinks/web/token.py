"""The token that a viewer must know: read from a file, and compared with that of a request."""

from __future__ import annotations

import base64

from edge_runtime.errors import ConfigError
from edge_runtime.system.digest import same_bytes
from edge_runtime.system.secret_file import read_secret

MIN_TOKEN = 16  # characters; shorter ones can be guessed


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

    token = read_secret(path, "token", "the token", "ascii")
    if len(token) < MIN_TOKEN or not token.isprintable() or " " in token:
        raise ConfigError(
            f"{path}: a token has at least {MIN_TOKEN} characters, no spaces",
            "try: openssl rand -hex 16",
        )
    return token
