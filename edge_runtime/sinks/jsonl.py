"""Records as JSON lines, to a file or to stdout, each flushed as it is written."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

from edge_runtime.errors import ConfigError
from edge_runtime.records import Frame, LabelRecord


class JsonlSink:
    """Appends one line a record with a single write, so that a kill can tear only the last line."""

    def __init__(self, path: Path | None) -> None:
        self.name = str(path) if path else "stdout"
        try:
            self._fd = (
                os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
                if path
                else sys.stdout.fileno()
            )
        except OSError as error:
            raise ConfigError(f"{path}: cannot write there: {error.strerror}; choose another --output") from None

    def write(self, record: LabelRecord, frame: Frame | None) -> None:
        line = memoryview(record.to_json().encode() + b"\n")
        try:
            while line:
                line = line[os.write(self._fd, line) :]
        except BrokenPipeError:  # `edge-label ... | head`: nobody reads any more, so stop in good order
            os.kill(os.getpid(), signal.SIGTERM)

    def close(self) -> None:
        if self.name != "stdout":
            os.close(self._fd)
