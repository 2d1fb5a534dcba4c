"""The errors that a user may see, each with its exit code, and the texts made from them.

An error is one line: what is wrong, where, and what to do.
"""

from __future__ import annotations

from copy import copy
from typing import Self

from edge_runtime.secrecy import masked


def printable(text: str) -> str:
    """``text`` with every control character escaped.

    Names and contents of files end up on terminals and in logs, and must not control them.
    """
    return "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in text)


def json_printable(text: str) -> str:
    """JSON text with unprintable characters as ``\\uXXXX``: safe on a terminal, and the same JSON.

    Newlines stay.
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c == "\n" else _utf16_escapes(c) for c in text)


def _utf16_escapes(character: str) -> str:
    units = character.encode("utf-16-be", "surrogatepass").hex()
    return "".join(f"\\u{units[i : i + 4]}" for i in range(0, len(units), 4))


def first_line(error: BaseException) -> str:
    """First line of an exception's message, or its type where the message is empty."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


def one_line(error: BaseException) -> str:
    """Any exception in one printable line, with the file's name where the system gives one."""
    if isinstance(error, EdgeLabelError):
        return str(error)
    if isinstance(error, MemoryError):
        return "not enough memory"
    if isinstance(error, OSError) and error.strerror:
        place = "" if error.filename is None else f"{error.filename}: "
        return printable(f"{place}{error.strerror}")
    return printable(first_line(error))


class EdgeLabelError(Exception):
    """Base of all errors that a user may see.

    ``str(error)`` is one printable line without a password: "what; advice".

    Attributes:
        what: What is wrong, and where.
        advice: What the user can do about it; empty where ``what`` is enough.
        exit_code: The exit code of a command that ends with it.
    """

    exit_code = 70

    def __init__(self, what: str, advice: str = "") -> None:
        super().__init__(what, advice)
        self.what = what
        self.advice = advice

    def __str__(self) -> str:
        line = f"{self.what}; {self.advice}" if self.advice else self.what
        return printable(masked(line))

    def within(self, where: str) -> Self:
        """The same error with a place in front: ``road.yaml: label 'x' is empty``."""
        error = copy(self)
        error.what = f"{where}: {self.what}"
        return error


class UsageError(EdgeLabelError):
    """The command line is wrong."""

    exit_code = 2


class DataError(EdgeLabelError):
    """An input exists but cannot be read as what it should be."""

    exit_code = 65


class NoInputError(EdgeLabelError):
    """An input does not exist."""

    exit_code = 66


class DeviceError(EdgeLabelError):
    """The camera cannot be opened, or it stopped delivering frames.

    ``state`` is the camera's state in the records.
    """

    exit_code = 69

    def __init__(self, what: str, advice: str = "", *, state: str = "no_device") -> None:
        super().__init__(what, advice)
        self.state = state


class StuckError(EdgeLabelError):
    """The process cannot recover by itself; a service manager should restart it."""

    exit_code = 70


class ConfigError(EdgeLabelError):
    """The configuration, label set or bundle is wrong; a restart does not help."""

    exit_code = 78


class BundleError(ConfigError):
    """A model bundle is incomplete, changed, mixed up, or not for this version."""
