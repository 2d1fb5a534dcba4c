"""User and password for a broker, read from a file of one line."""

from __future__ import annotations

from pathlib import Path

from edge_runtime.errors import ConfigError
from edge_runtime.system.secret_file import read_secret


def read_credentials(path: Path) -> tuple[str, str]:
    """(user, password) from a file of one line, ``user:password``. Raises ConfigError.

    What editors add is not part of the password: a byte order mark, spaces and line ends around it.
    """
    text = read_secret(str(path), "password", "mqtt credentials", "utf-8-sig")

    if not path.is_file():
        raise ConfigError(f"{path}: must be a file of one line, user:password")

    user, colon, password = text.partition(":")
    if not colon or not user or "\n" in password:
        raise ConfigError(f"{path}: must be one line, user:password")
    return user, password
