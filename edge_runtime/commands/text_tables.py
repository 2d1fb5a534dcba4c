"""Tables that are text files: one line a picture, as JSON or as CSV.

A text table is appended to and never rewritten. A line that a killed process left half is cut off
before the table is continued, but only in a file that begins as ours do.
"""

from __future__ import annotations

import csv
import io
import json
import logging
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from edge_runtime.commands.table_base import claim_table, picture_name
from edge_runtime.errors import DataError
from edge_runtime.records import LabelledFrame
from edge_runtime.system.claims import let_go
from edge_runtime.system.files import unfinished_line
from edge_runtime.system.ownership import no_planted_link

log = logging.getLogger("edge_label")

CSV_COLUMNS = ("file", "state", "label", "score", "margin", "on", "total_ms", "bundle", "labels_id")

_APPENDING = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC


class _TextTable:
    """A text file that grows line by line; after a full disk it ends with the last whole line.

    ``begins`` are its first bytes. A file that begins with others is not ours, and stays as it is.
    """

    begins: bytes

    def __init__(self, path: Path) -> None:
        self._path = path
        self._fd = os.open(path, _APPENDING | no_planted_link(path), 0o666)
        try:
            claim_table(self._fd, path)
            cut_torn_line(self._fd, path, self.begins)
            self.stored = set(self._names(path))
        except BaseException:
            os.close(self._fd)
            raise

    def _names(self, path: Path) -> Iterator[str]:
        """The pictures that the table holds. Raises DataError for what is not such a table."""
        raise NotImplementedError

    def _append(self, line: bytes) -> None:
        size_before = os.fstat(self._fd).st_size
        rest = memoryview(line)
        try:
            while rest:
                rest = rest[os.write(self._fd, rest) :]
        except OSError as error:
            if len(rest) < len(line):
                os.ftruncate(self._fd, size_before)
            raise DataError(
                f"{self._path}: cannot write: {error.strerror}",
                "what it holds is whole; make room, then continue with --resume",
            ) from error

    def close(self) -> None:
        """Let other processes write to the table. Every line is written already."""
        let_go(self._fd)


class JsonlTable(_TextTable):
    """One record a line, exactly as a run writes it."""

    begins = b'{"schema"'

    def _names(self, path: Path) -> Iterator[str]:
        with path.open("rb") as stream:
            for number, line in enumerate(stream, 1):
                try:
                    record = json.loads(line)
                    yield picture_name(record["camera"], record["file"])
                except (ValueError, KeyError, TypeError, RecursionError) as error:
                    raise DataError(
                        f"{path}:{number}: not a record of a picture", "give another --output"
                    ) from error

    def write(self, name: str, labelled: LabelledFrame) -> None:
        """Add one line. Raises DataError when it cannot be stored."""
        self._append(labelled.record.to_json().encode() + b"\n")


class CsvTable(_TextTable):
    """One row a picture: its best label, and in ``on`` all that are on, separated by semicolons."""

    begins = ",".join(CSV_COLUMNS).encode()

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        if not path.stat().st_size:
            self._append_row(CSV_COLUMNS)

    def _names(self, path: Path) -> Iterator[str]:
        if not path.stat().st_size:
            return
        with path.open(encoding="utf-8", newline="") as stream:
            rows = csv.reader(stream)
            try:
                if tuple(next(rows)) != CSV_COLUMNS:
                    raise DataError(f"{path}: has other columns", "give another --output")
                yield from (row[0] for row in rows if row)
            except (UnicodeDecodeError, csv.Error) as error:
                raise DataError(
                    f"{path}: not a table of edge-label ({error})", "give another --output"
                ) from error

    def write(self, name: str, labelled: LabelledFrame) -> None:
        """Add one row. Raises DataError when it cannot be stored."""
        record = labelled.record
        best = record.labels[0] if record.labels else None
        scored = (best.name, best.score, best.margin) if best else ("", "", "")
        on = ";".join(label.name for label in record.labels if label.on)
        total_ms = record.ms.total
        self._append_row(
            (name, record.state, *scored, on, total_ms, record.bundle, record.labels_id)
        )

    def _append_row(self, row: Iterable[object]) -> None:
        text = io.StringIO()
        csv.writer(text).writerow(row)
        self._append(text.getvalue().encode())


def cut_torn_line(fd: int, path: Path, head: bytes) -> None:
    """Cut off what a killed process left after the last newline of the open file ``path``.

    A file that does not begin with ``head`` is somebody else's and stays; whoever reads it next
    says so.
    """
    beginning = os.pread(fd, len(head), 0).rstrip(b"\0")  # a power cut may leave only zeros
    if not head.startswith(beginning):
        return

    size = os.fstat(fd).st_size
    whole, _ = unfinished_line(fd, size)
    if whole < size:
        log.warning("%s: its last line was incomplete and has been cut off", path)
        os.ftruncate(fd, whole)
