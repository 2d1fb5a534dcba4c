"""The three standard streams, whatever a caller made of them: closed, full, a broken pipe.

A closed descriptor is the dangerous one: the next file that is opened gets its number, and what a
library prints goes into that file.
"""

from __future__ import annotations

import io
import os
import sys

from edge_runtime.errors import json_printable, printable


class _Forgiving(io.TextIOWrapper):
    """Standard error that drops what it cannot write: a log line never stops the program."""

    def write(self, text: str) -> int:
        try:
            return super().write(text)
        except OSError:
            return len(text)

    def flush(self) -> None:
        try:
            super().flush()
        except OSError:
            pass


def mend() -> None:
    """Make all three usable. Call it before anything opens a file.

    A standard output that was closed refuses what is written to it, as it did before. The other two
    are then empty and silent.
    """
    # Descriptor 1 is opened for reading on purpose: writing to it then still fails.
    for number, flags in ((0, os.O_RDONLY), (1, os.O_RDONLY), (2, os.O_WRONLY)):
        if _is_closed(number):
            _open_null(number, flags)

    # Python has set a stream to None where its descriptor was closed at the start.
    if sys.stdin is None:
        sys.stdin = os.fdopen(0, encoding="utf-8", closefd=False)
    if sys.stdout is None:
        sys.stdout = os.fdopen(1, "w", encoding="utf-8", closefd=False)
    if isinstance(sys.stdout, io.TextIOWrapper):
        # A character that the terminal's encoding lacks is no reason to stop.
        sys.stdout.reconfigure(errors="backslashreplace")
    if sys.stderr is None or sys.stderr is sys.__stderr__:
        encoding = getattr(sys.stderr, "encoding", "utf-8")
        raw = os.fdopen(2, "wb", closefd=False)
        sys.stderr = _Forgiving(raw, encoding, errors="backslashreplace", line_buffering=True)


def say(text: str) -> None:
    """Print lines for a person. Raises OSError where standard output takes no more."""
    lines = [printable(line) for line in text.split("\n")]
    sys.stdout.write("\n".join(lines) + "\n")
    sys.stdout.flush()


def say_json(text: str) -> None:
    """Print JSON: UTF-8 in any locale, because programs read it. Raises OSError as ``say`` does."""
    sys.stdout.flush()
    sys.stdout.buffer.write(json_printable(text).encode() + b"\n")
    sys.stdout.buffer.flush()


def silence() -> None:
    """Send what standard output still holds nowhere: Python would complain about it at the exit."""
    _open_null(1, os.O_WRONLY)


def _is_closed(number: int) -> bool:
    try:
        os.fstat(number)
    except OSError:
        return True
    return False


def _open_null(number: int, flags: int) -> None:
    null = os.open(os.devnull, flags)
    if null != number:
        os.dup2(null, number)
        os.close(null)
    os.set_inheritable(number, True)
