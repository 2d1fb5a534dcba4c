"""What every table of ``once`` shares: its promise, its lock, and the names of pictures."""

from __future__ import annotations

import unicodedata
from pathlib import Path
from typing import Protocol

from edge_runtime.errors import ConfigError, printable
from edge_runtime.records import LabelledFrame
from edge_runtime.system.claims import TakenError, claim

# Unicode categories: control characters, half characters, line and paragraph separators.
_NOT_TEXT = ("Cc", "Cs", "Zl", "Zp")


class Table(Protocol):
    """Takes records one by one. ``stored`` are the pictures that it held when it was opened."""

    stored: set[str]

    def write(self, name: str, labelled: LabelledFrame) -> None:
        """Add one picture's record. Raises DataError when it cannot be stored."""

    def close(self) -> None:
        """Write what is still held back. Raises as ``write`` does."""


def claim_table(fd: int, path: Path) -> None:
    """Keep every other process from writing to the table. Raises ConfigError where one does."""
    try:
        claim(fd)
    except TakenError as error:
        raise ConfigError(
            f"{path}: {error.strerror}", "wait for it, or give another --output"
        ) from error


def picture_name(argument: str, file: str) -> str:
    """A picture's path as the user would write it: ``argument``, or ``file`` below that folder.

    A character that a terminal would obey, or that is no text at all, is written as an escape.
    """
    name = argument if file == argument else str(Path(argument) / file)
    return "".join(printable(c) if unicodedata.category(c) in _NOT_TEXT else c for c in name)
