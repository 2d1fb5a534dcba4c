"""Records as tables that other programs read: JSON lines, CSV, or a folder of Parquet parts. All can be resumed.

A picture's ``name`` is its path as the user would write it. A table knows the names it already holds.
"""

from __future__ import annotations

import csv
import io
import json
import logging
import os
import re
import unicodedata
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Protocol

from edge_runtime.errors import ConfigError, DataError, UsageError, printable
from edge_runtime.records import LabelledFrame
from edge_runtime.system.claims import TakenError, claim, let_go
from edge_runtime.system.files import sync_folder
from edge_runtime.system.ownership import no_planted_link

log = logging.getLogger("edge_label")

PART_ROWS = 1000
SUFFIXES = (".jsonl", ".csv", ".parquet")
_NOT_TEXT = (
    "Cc",
    "Cs",
    "Zl",
    "Zp",
)  # control characters, half characters, line and paragraph separators
_APPENDING = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
_NEW_PART = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
CSV_COLUMNS = ("file", "state", "label", "score", "margin", "on", "total_ms", "bundle", "labels_id")


class Table(Protocol):
    """Takes records one by one. ``done`` are the names it held before."""

    done: set[str]

    def write(self, name: str, labelled: LabelledFrame) -> None:
        """Add one picture's record. Raises DataError when it cannot be stored."""

    def close(self) -> None:
        """Write what is still held back. Raises as ``write`` does."""


def open_table(path: Path, *, resume: bool, embeddings: bool) -> Table:
    """The table that ``path``'s suffix asks for.

    Raises UsageError for another suffix or one that is there without ``resume``, ConfigError when pyarrow is missing,
    DataError when what is there is not such a table.
    """
    if path.suffix not in SUFFIXES:
        raise UsageError(
            f"{path}: end it in {', '.join(SUFFIXES)}, so that it is clear what to write"
        )
    if embeddings and path.suffix != ".parquet":
        raise UsageError(
            "--embeddings needs a .parquet output", "numbers as text would be ten times the size"
        )
    if path.exists() and not resume:
        raise UsageError(
            f"{path}: is already there", "--resume goes on with it, or give another name"
        )
    try:
        if path.suffix == ".parquet":
            return ParquetTable(path, embeddings=embeddings)
        return CsvTable(path) if path.suffix == ".csv" else JsonlTable(path)
    except OSError as error:
        raise DataError(
            f"{path}: cannot write there: {error.strerror}", "choose another file or folder"
        ) from None


class _TextTable:
    """A text file that grows line by line; after a full disk it ends with the last line that was stored whole.

    ``begins`` are its first bytes: a file that begins with others is not ours, and stays as it is.
    """

    begins: bytes

    def __init__(self, path: Path) -> None:
        self._path = path
        self._fd = os.open(path, _APPENDING | no_planted_link(path), 0o666)
        try:
            _claim(self._fd, path)
            cut_torn_line(path, self.begins)
            self.done = set(self._names(path))
        except BaseException:
            os.close(self._fd)
            raise

    def _names(self, path: Path) -> Iterator[str]:
        """The pictures that the table holds. Raises DataError for what is not such a table."""
        raise NotImplementedError

    def _append(self, line: bytes) -> None:
        before = os.fstat(self._fd).st_size
        rest = memoryview(line)
        try:
            while rest:
                rest = rest[os.write(self._fd, rest) :]
        except OSError as error:
            if len(rest) < len(line):
                os.ftruncate(self._fd, before)
            why = f"cannot write: {error.strerror}; what it holds is whole; make room, then go on with --resume"
            raise DataError(f"{self._path}: {why}") from None

    def close(self) -> None:
        let_go(self._fd)


def _claim(fd: int, path: Path) -> None:
    try:
        claim(fd)
    except TakenError as error:
        raise ConfigError(
            f"{path}: {error.strerror}", "wait for it, or give another --output"
        ) from None


class JsonlTable(_TextTable):
    """One record a line, exactly as a run writes it."""

    begins = b'{"schema"'

    def _names(self, path: Path) -> Iterator[str]:
        if path.exists():
            with path.open("rb") as stream:
                for number, line in enumerate(stream, 1):
                    try:
                        record = json.loads(line)
                        yield picture_name(record["camera"], record["file"])
                    except (ValueError, KeyError, TypeError, RecursionError):
                        raise DataError(
                            f"{path}:{number}: not a record of a picture", "give another --output"
                        ) from None

    def write(self, name: str, labelled: LabelledFrame) -> None:
        self._append(labelled.record.to_json().encode() + b"\n")


class CsvTable(_TextTable):
    """One row a picture: its best label, and in ``on`` all that are on, separated by semicolons."""

    begins = ",".join(CSV_COLUMNS).encode()

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        if not path.stat().st_size:
            self._append_row(CSV_COLUMNS)

    def _names(self, path: Path) -> Iterator[str]:
        if path.exists() and path.stat().st_size:
            with path.open(encoding="utf-8", newline="") as stream:
                rows = csv.reader(stream)
                try:
                    if tuple(next(rows)) != CSV_COLUMNS:
                        raise DataError(f"{path}: has other columns", "give another --output")
                    yield from (row[0] for row in rows if row)
                except (UnicodeDecodeError, csv.Error) as error:
                    raise DataError(
                        f"{path}: not a table of ours ({error})", "give another --output"
                    ) from None

    def write(self, name: str, labelled: LabelledFrame) -> None:
        record = labelled.record
        best = record.labels[0] if record.labels else None
        on = ";".join(label.name for label in record.labels if label.on)
        scored = (best.name, best.score, best.margin) if best else ("", "", "")
        self._append_row(
            (name, record.state, *scored, on, record.ms.total, record.bundle, record.labels_id)
        )

    def _append_row(self, row: Iterable[object]) -> None:
        text = io.StringIO()
        csv.writer(text).writerow(row)
        self._append(text.getvalue().encode())


class ParquetTable:
    """A folder of Parquet files of ``PART_ROWS`` rows, each there whole or not at all: what Arrow calls a dataset."""

    def __init__(self, folder: Path, *, embeddings: bool) -> None:
        try:
            import pyarrow
            import pyarrow.parquet
        except ImportError:
            raise ConfigError(
                "parquet: pyarrow is not installed",
                "pip install 'edge-label[parquet]', or write .jsonl",
            ) from None
        self._arrow = pyarrow
        label = [("name", "string"), ("score", "float32"), ("margin", "float32"), ("on", "bool")]
        fields: list[tuple[str, Any]] = [("file", pyarrow.string()), ("state", pyarrow.string())]
        fields.append(
            (
                "labels",
                pyarrow.list_(pyarrow.struct([(n, pyarrow.type_for_alias(t)) for n, t in label])),
            )
        )
        fields += [
            ("total_ms", pyarrow.float32()),
            ("bundle", pyarrow.string()),
            ("labels_id", pyarrow.string()),
        ]
        self._embeddings = embeddings
        if embeddings:
            fields.append(("embedding", pyarrow.list_(pyarrow.float32())))
        self._schema = pyarrow.schema(fields)
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self._fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            _claim(self._fd, folder)
            parts = self._tidy()
            self.done = set()
            for part in parts:
                self.done.update(self._names(part))
        except BaseException:
            os.close(self._fd)
            raise
        self._next = int(parts[-1].stem.split("-")[1]) + 1 if parts else 0
        self._rows: list[dict[str, Any]] = []

    def _tidy(self) -> list[Path]:
        """The parts in order; what a killed run left of one is taken away."""
        parts = []
        for path in sorted(self._folder.iterdir()):
            if re.fullmatch(r"part-\d{6,}\.parquet", path.name):
                parts.append(path)
            elif re.fullmatch(r"\.part-\d{6,}\.parquet\.part", path.name):
                path.unlink()
        return parts

    def _names(self, part: Path) -> list[str]:
        try:
            with part.open("rb") as stream:  # of a path with a colon Arrow makes a URL
                table = self._arrow.parquet.read_table(stream)
        except (self._arrow.ArrowException, OSError):
            raise DataError(
                f"{part}: is not a Parquet file that can be read", "delete it or start anew"
            ) from None
        if table.schema != self._schema:
            raise DataError(f"{part}: has other columns", "give another --output")
        names: list[str] = table.column("file").to_pylist()
        return names

    def write(self, name: str, labelled: LabelledFrame) -> None:
        record = labelled.record
        whole = record.to_dict()
        row = {
            "file": name,
            "state": record.state,
            "labels": whole["labels"],
            "total_ms": record.ms.total,
        }
        row |= {"bundle": record.bundle, "labels_id": record.labels_id}
        if self._embeddings:
            row["embedding"] = None if labelled.embedding is None else labelled.embedding.tolist()
        self._rows.append(row)
        if len(self._rows) >= PART_ROWS:
            self._flush()

    def close(self) -> None:
        try:
            if self._rows:
                self._flush()
        finally:
            let_go(self._fd)

    def _flush(self) -> None:
        table = self._arrow.Table.from_pylist(self._rows, schema=self._schema)
        target = self._folder / f"part-{self._next:06d}.parquet"
        partial = self._folder / f".{target.name}.part"
        try:
            with os.fdopen(os.open(partial, _NEW_PART, 0o666), "wb") as stream:
                self._arrow.parquet.write_table(table, stream)
                stream.flush()
                os.fsync(
                    stream.fileno()
                )  # or a power cut could leave an empty part, which no --resume can read
            partial.replace(target)
            sync_folder(self._folder)
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
    with os.fdopen(
        os.open(path, os.O_RDWR | os.O_CLOEXEC | no_planted_link(path)), "r+b"
    ) as stream:
        beginning = stream.read(len(head)).rstrip(b"\0")  # a power cut may leave nothing but zeros
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
