"""Records as tables that other programs read: JSON lines, CSV, or a folder of Parquet parts. All can be resumed.

A picture's ``name`` is its path as the user would write it. A table knows the names it already holds.
"""

from __future__ import annotations

import csv
import json
import logging
import os
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, Protocol

from edge_runtime.errors import ConfigError, DataError, UsageError, printable
from edge_runtime.records import Frame, LabelRecord

log = logging.getLogger("edge_label")

PART_ROWS = 1000
SUFFIXES = (".jsonl", ".csv", ".parquet")
_NOT_TEXT = ("Cc", "Cs", "Zl", "Zp")  # control characters, half characters, line and paragraph separators
CSV_COLUMNS = ("file", "state", "label", "score", "margin", "on", "total_ms", "bundle", "labels_id")


class Table(Protocol):
    """Takes records one by one. ``done`` are the names it held before."""

    done: set[str]

    def write(self, name: str, record: LabelRecord, frame: Frame) -> None:
        """Add one picture's record. Raises DataError when it cannot be stored."""

    def close(self) -> None:
        """Write what is still held back. Raises as ``write`` does."""


def open_table(path: Path, *, resume: bool, embeddings: bool) -> Table:
    """The table that ``path``'s suffix asks for.

    Raises UsageError for another suffix or one that is there without ``resume``, ConfigError when pyarrow is missing,
    DataError when what is there is not such a table.
    """
    if path.suffix not in SUFFIXES:
        raise UsageError(f"{path}: end it in {', '.join(SUFFIXES)}, so that it is clear what to write")
    if embeddings and path.suffix != ".parquet":
        raise UsageError("--embeddings needs a .parquet output; numbers as text would be ten times the size")
    if path.exists() and not resume:
        raise UsageError(f"{path}: is already there; --resume goes on with it, or give another name")
    try:
        if path.suffix == ".parquet":
            return ParquetTable(path, embeddings=embeddings)
        return CsvTable(path) if path.suffix == ".csv" else JsonlTable(path)
    except OSError as error:
        raise DataError(f"{path}: cannot write there: {error.strerror}; choose another file or folder") from None


class _TextTable:
    """A text file that grows line by line; what a full disk has torn, the next ``--resume`` makes anew."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: IO[str] = path.open("a", encoding="utf-8", newline="")

    def _flush(self) -> None:
        try:
            self._file.flush()
        except OSError as error:
            raise self._refused(error) from None

    def close(self) -> None:
        try:
            self._file.close()
        except OSError as error:
            raise self._refused(error) from None

    def _refused(self, error: OSError) -> DataError:
        return DataError(f"{self._path}: cannot write: {error.strerror}; make room, then go on with --resume")


class JsonlTable(_TextTable):
    """One record a line, exactly as a run writes it."""

    def __init__(self, path: Path) -> None:
        cut_torn_line(path, b'{"schema"')
        self.done = set(self._names(path))
        super().__init__(path)

    @staticmethod
    def _names(path: Path) -> Iterator[str]:
        if path.exists():
            with path.open("rb") as stream:
                for number, line in enumerate(stream, 1):
                    try:
                        record = json.loads(line)
                        yield picture_name(record["camera"], record["file"])
                    except (ValueError, KeyError, TypeError, RecursionError):
                        raise DataError(f"{path}:{number}: not a record of a picture; give another --output") from None

    def write(self, name: str, record: LabelRecord, frame: Frame) -> None:
        self._file.write(record.to_json() + "\n")
        self._flush()


class CsvTable(_TextTable):
    """One row a picture: its best label, and in ``on`` all that are on, separated by semicolons."""

    def __init__(self, path: Path) -> None:
        cut_torn_line(path, ",".join(CSV_COLUMNS).encode())
        self.done = set(self._names(path))
        new = not path.exists() or not path.stat().st_size
        super().__init__(path)
        self._rows = csv.writer(self._file)
        if new:
            self._rows.writerow(CSV_COLUMNS)

    @staticmethod
    def _names(path: Path) -> Iterator[str]:
        if path.exists() and path.stat().st_size:
            with path.open(encoding="utf-8", newline="") as stream:
                rows = csv.reader(stream)
                try:
                    if tuple(next(rows)) != CSV_COLUMNS:
                        raise DataError(f"{path}: has other columns; give another --output")
                    yield from (row[0] for row in rows if row)
                except (UnicodeDecodeError, csv.Error) as error:
                    raise DataError(f"{path}: not a table of ours ({error}); give another --output") from None

    def write(self, name: str, record: LabelRecord, frame: Frame) -> None:
        best = record.labels[0] if record.labels else None
        on = ";".join(label.name for label in record.labels if label.on)
        scored = (best.name, best.score, best.margin) if best else ("", "", "")
        self._rows.writerow((name, record.state, *scored, on, record.ms.total, record.bundle, record.labels_id))
        self._flush()


class ParquetTable:
    """A folder of Parquet files of ``PART_ROWS`` rows, each there whole or not at all: what Arrow calls a dataset."""

    def __init__(self, folder: Path, *, embeddings: bool) -> None:
        try:
            import pyarrow
            import pyarrow.parquet
        except ImportError:
            raise ConfigError(
                "parquet: pyarrow is not installed; pip install 'edge-label[parquet]', or write .jsonl"
            ) from None
        self._arrow = pyarrow
        label = [("name", "string"), ("score", "float32"), ("margin", "float32"), ("on", "bool")]
        fields: list[tuple[str, Any]] = [("file", pyarrow.string()), ("state", pyarrow.string())]
        fields.append(("labels", pyarrow.list_(pyarrow.struct([(n, pyarrow.type_for_alias(t)) for n, t in label]))))
        fields += [("total_ms", pyarrow.float32()), ("bundle", pyarrow.string()), ("labels_id", pyarrow.string())]
        self._embeddings = embeddings
        if embeddings:
            fields.append(("embedding", pyarrow.list_(pyarrow.float32())))
        self._schema = pyarrow.schema(fields)
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        for partial in folder.glob(".part-*.parquet.part"):
            partial.unlink()
        parts = sorted(folder.glob("part-*.parquet"))
        self.done = set()
        for part in parts:
            try:
                with part.open("rb") as stream:  # of a path with a colon Arrow makes a URL
                    table = pyarrow.parquet.read_table(stream)
                if table.schema != self._schema:
                    raise DataError(f"{part}: has other columns; give another --output")
                self.done.update(table.column("file").to_pylist())
            except (pyarrow.ArrowException, OSError):
                raise DataError(f"{part}: is not a Parquet file that can be read; delete it or start anew") from None
        self._next = int(parts[-1].stem.split("-")[1]) + 1 if parts else 0
        self._rows: list[dict[str, Any]] = []

    def write(self, name: str, record: LabelRecord, frame: Frame) -> None:
        whole = record.to_dict()
        row = {"file": name, "state": record.state, "labels": whole["labels"], "total_ms": record.ms.total}
        row |= {"bundle": record.bundle, "labels_id": record.labels_id}
        if self._embeddings:
            row["embedding"] = None if frame.embedding is None else frame.embedding.tolist()
        self._rows.append(row)
        if len(self._rows) >= PART_ROWS:
            self._flush()

    def close(self) -> None:
        if self._rows:
            self._flush()

    def _flush(self) -> None:
        table = self._arrow.Table.from_pylist(self._rows, schema=self._schema)
        target = self._folder / f"part-{self._next:06d}.parquet"
        partial = self._folder / f".{target.name}.part"
        try:
            with partial.open("wb") as stream:
                self._arrow.parquet.write_table(table, stream)
            partial.replace(target)
        except OSError as error:
            partial.unlink(missing_ok=True)
            raise DataError(f"{target}: cannot write: {error.strerror or error}") from None
        self._next += 1
        self._rows.clear()


def picture_name(given: str, file: str) -> str:
    """A picture's path: ``given`` itself, or ``file`` below the folder ``given``.

    A name that a terminal would obey, or that is no text at all, is written with escapes.
    """
    name = given if file == given else str(Path(given) / file)
    return "".join(printable(c) if unicodedata.category(c) in _NOT_TEXT else c for c in name)


def cut_torn_line(path: Path, head: bytes = b"") -> None:
    """Take away what a killed process left after the last newline of a file that begins as ours do, with ``head``."""
    if not path.exists():
        return
    with path.open("r+b") as stream:
        beginning = stream.read(len(head))
        if not head.startswith(beginning):
            return  # somebody's own file: whoever reads it says so
        end = stream.seek(0, os.SEEK_END)
        keep = end
        while keep:
            start = max(0, keep - 65536)
            stream.seek(start)
            newline = stream.read(keep - start).rfind(b"\n")
            if newline >= 0:
                keep = start + newline + 1
                break
            keep = start
        if keep < end:
            log.warning("%s: its last line was torn and is made anew", path)
            stream.truncate(keep)
