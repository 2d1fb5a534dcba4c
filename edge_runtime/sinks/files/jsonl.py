"""Records as JSON lines, to a file or to standard output, each written as it comes."""

from __future__ import annotations

import errno
import os
import signal
import sys
from pathlib import Path

from edge_runtime.errors import ConfigError
from edge_runtime.records import LabelledFrame, LabelRecord
from edge_runtime.sinks.files.record_file import Caps, RecordFile


class JsonlFileSink:
    """One line a record in a file that keeps its byte cap. Raises what `RecordFile` raises."""

    def __init__(self, path: Path, caps: Caps | None) -> None:
        self.name = str(path)
        self._file = RecordFile(path, caps)

    @property
    def deleted(self) -> int:
        """Older files deleted to stay under the cap."""
        return self._file.deleted

    def write(self, labelled: LabelledFrame) -> None:
        """Append the record. Raises OSError when it could not be stored."""
        self._file.append(_line(labelled.record))

    def close(self) -> None:
        """Flush to the disk."""
        self._file.close()


class JsonlStdoutSink:
    """One line a record on standard output. Raises ConfigError where that is closed."""

    name = "stdout"

    def __init__(self) -> None:
        self._torn = False  # the last line is unfinished
        try:
            os.write(sys.stdout.fileno(), b"")
        except OSError as error:
            if error.errno == errno.EBADF:
                what = "standard output is closed"
                raise ConfigError(what, "redirect it, or give --output FILE") from error

    def write(self, labelled: LabelledFrame) -> None:
        """Write the record. Raises OSError: standard output may be a file on a full disk."""
        # After half a line a newline comes first, so that only that line is bad.
        newline = b"\n" if self._torn else b""
        rest = memoryview(newline + _line(labelled.record))
        try:
            while rest:
                written = os.write(sys.stdout.fileno(), rest)
                self._torn = written < len(rest)
                rest = rest[written:]
        except BrokenPipeError:
            # `edge-label ... | head`: nobody reads any more, so stop in good order.
            os.kill(os.getpid(), signal.SIGTERM)

    def close(self) -> None:
        """Nothing to do: every line was written at once."""


def _line(record: LabelRecord) -> bytes:
    return record.to_json().encode() + b"\n"
