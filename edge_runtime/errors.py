"""Every way edge-label stops, with its exit code. A message is one line: what, where, what to do."""

from __future__ import annotations


def printable(text: str) -> str:
    """``text`` with every control character escaped: names and file contents end up on terminals and in logs."""
    return "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in text)


def first_line(error: BaseException) -> str:
    """What an exception of a library says, on one line; its type where it says nothing, as MemoryError does."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


class EdgeLabelError(Exception):
    """Base of all errors a user may see; ``str(error)`` is one printable line."""

    exit_code = 70

    def __str__(self) -> str:
        return printable(super().__str__())


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

    def __init__(self, message: str, state: str = "no_device") -> None:
        super().__init__(message)
        self.state = state


class StuckError(EdgeLabelError):
    """Nothing more can be done from inside; a service manager should restart the process."""

    exit_code = 70


class ConfigError(EdgeLabelError):
    """Configuration, label set or bundle is wrong; a restart would not help."""

    exit_code = 78


class BundleError(ConfigError):
    """A model bundle is missing, altered, mismatched or not for this runtime."""
