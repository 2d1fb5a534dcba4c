"""User and password for a broker, read from a file of one line."""

from __future__ import annotations

from pathlib import Path

from edge_runtime.errors import ConfigError
from edge_runtime.secrecy import shown_file

MAX_CREDENTIALS = 4096  # bytes; the path may lead to anything


def read_credentials(path: Path) -> tuple[str, str]:
    """(user, password) from a file of one line, ``user:password``. Raises ConfigError.

    What editors add is not part of the password: a byte order mark, spaces and line ends around it.
    """
    try:
        if path.stat().st_mode & 0o007:
            raise ConfigError(
                f"{path}: every user may read this password",
                "chmod 640 it, group video for the service",
            )
        if not path.is_file():
            raise ConfigError(f"{path}: must be a file of one line, user:password")
        with path.open("rb") as stream:
            text = stream.read(MAX_CREDENTIALS).decode("utf-8-sig").strip()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        if isinstance(error, UnicodeDecodeError):
            reason = "not UTF-8"
        advice = "the service's group is video" if isinstance(error, PermissionError) else ""
        what = f"{shown_file(str(path))}: cannot read mqtt credentials: {reason}"
        # Not "from error": its message has the path, and somebody may have written the password
        # there.
        raise ConfigError(what, advice) from None

    user, colon, password = text.partition(":")
    if not colon or not user or "\n" in password:
        raise ConfigError(f"{path}: must be one line, user:password")
    return user, password
