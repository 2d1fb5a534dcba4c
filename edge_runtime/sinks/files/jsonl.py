"""Records as JSON lines, to a file or to stdout, each written as it comes."""

from __future__ import annotations

import errno
import os
import signal
import sys
from pathlib import Path

from edge_runtime.errors import ConfigError
from edge_runtime.records import LabelledFrame
from edge_runtime.sinks.files.record_file import Caps, RecordFile


class JsonlFileSink:
    """One line a record in a file that keeps its byte cap; ``deleted`` counts what the cap cost."""

    def __init__(self, path: Path, caps: Caps | None) -> None:
        self.name = str(path)
        self._file = RecordFile(path, caps)

    @property
    def deleted(self) -> int:
        """Older files deleted to stay under the cap."""
        return self._file.deleted

    def write(self, labelled: LabelledFrame) -> None:
        self._file.append(labelled.record.to_json().encode() + b"\n")

    def close(self) -> None:
        self._file.close()


class JsonlStdoutSink:
    """One line a record on stdout. Raises ConfigError where standard output is closed: nobody could get any."""

    name = "stdout"

    def __init__(self) -> None:
        self._torn = False
        try:
            os.write(sys.stdout.fileno(), b"")
        except OSError as error:
            if error.errno == errno.EBADF:
                raise ConfigError(
                    "standard output is closed", "redirect it, or give --output FILE"
                ) from None

    def write(self, labelled: LabelledFrame) -> None:
        # After half a line (stdout may be a file on a full disk) a newline first, so that only that line is bad.
        line = memoryview(b"\n" * self._torn + labelled.record.to_json().encode() + b"\n")
        try:
            while line:
                written = os.write(sys.stdout.fileno(), line)
                self._torn = written < len(line)
                line = line[written:]
        except (
            BrokenPipeError
        ):  # `edge-label ... | head`: nobody reads any more, so stop in good order
            os.kill(os.getpid(), signal.SIGTERM)

    def close(self) -> None:
        pass
