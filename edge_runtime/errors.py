"""Every way edge-label stops, with its exit code. A message is one line: what, where, what to do."""

from __future__ import annotations

from copy import copy
from typing import Self

from edge_runtime.secrecy import masked


def printable(text: str) -> str:
    """``text`` with every control character escaped: names and file contents end up on terminals and in logs."""
    return "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in text)


def json_printable(text: str) -> str:
    """JSON text with every unprintable character but newlines as ``\\uXXXX``: it means the same, and can be shown."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c == "\n" else _utf16_escapes(c) for c in text)


def _utf16_escapes(character: str) -> str:
    units = character.encode("utf-16-be", "surrogatepass").hex()
    return "".join(f"\\u{units[i : i + 4]}" for i in range(0, len(units), 4))


def first_line(error: BaseException) -> str:
    """What an exception of a library says, on one line; its type where it says nothing, as MemoryError does."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


def one_line(error: BaseException) -> str:
    """Any exception in one printable line; the file's name where the system gives one."""
    if isinstance(error, EdgeLabelError):
        return str(error)
    if isinstance(error, MemoryError):
        return "not enough memory"
    if isinstance(error, OSError) and error.strerror:
        where = "" if error.filename is None else f"{error.filename}: "
        return printable(f"{where}{error.strerror}")
    return printable(first_line(error))


class EdgeLabelError(Exception):
    """Base of all errors a user may see; ``str(error)`` is one printable line, and it holds no password.

    Attributes:
        what: What is wrong, and where.
        advice: What the user can do about it; empty where ``what`` says it all.
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
        """The same error with the place in front: ``road.yaml: label 'x' is empty``."""
        error = copy(self)
        error.what = f"{where}: {self.what}"
        return error


class UsageError(EdgeLabelError):
    """The command line cannot mean anything."""

    exit_code = 2


class DataError(EdgeLabelError):
    """Input that exists but cannot be read as what it should be."""

    exit_code = 65


class NoInputError(EdgeLabelError):
    """The named input does not exist."""

    exit_code = 66


class DeviceError(EdgeLabelError):
    """The camera cannot be opened or stopped delivering. ``state`` is the camera state of the record."""

    exit_code = 69

    def __init__(self, what: str, advice: str = "", *, state: str = "no_device") -> None:
        super().__init__(what, advice)
        self.state = state


class StuckError(EdgeLabelError):
    """Nothing more can be done from inside; a service manager should restart the process."""

    exit_code = 70


class ConfigError(EdgeLabelError):
    """Configuration, label set or bundle is wrong; a restart would not help."""

    exit_code = 78


class BundleError(ConfigError):
    """A model bundle is missing, altered, mismatched or not for this runtime."""
