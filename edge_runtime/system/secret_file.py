"""Files that hold one secret: a password or a token."""

from __future__ import annotations

from pathlib import Path

from edge_runtime.errors import ConfigError
from edge_runtime.secrecy import shown_file
from edge_runtime.system.files import read_capped

MAX_SECRET_FILE = 4096  # bytes; the path may lead to anything


def read_secret(path: str, kind: str, title: str, encoding: str) -> str:
    """The text of a secret file, without spaces and line ends around it.

    Args:
        path: The file.
        kind: What it holds, as errors call it: ``password``.
        title: What was to be read, as errors call it: ``mqtt credentials``.
        encoding: ``ascii``, or ``utf-8-sig`` where an editor may have put a byte order mark.

    Raises ConfigError for a file that cannot be read, and for one that every user may read.
    """
    try:
        if Path(path).stat().st_mode & 0o007:
            raise ConfigError(
                f"{path}: every user may read this {kind}",
                "chmod 640 it, group video for the service",
            )
        return read_capped(Path(path), MAX_SECRET_FILE).decode(encoding).strip()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        if isinstance(error, UnicodeDecodeError):
            reason = f"not {'ASCII' if encoding == 'ascii' else 'UTF-8'}"
        advice = "the service's group is video" if isinstance(error, PermissionError) else ""
        what = f"{shown_file(path)}: cannot read {title}: {reason}"
        # Not "from error": its message has the path, and somebody may have put the secret there.
        raise ConfigError(what, advice) from None
