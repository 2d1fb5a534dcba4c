"""A folder of Parquet files, each there whole or not at all: what Arrow calls a dataset.

pyarrow is imported when a table is opened; it is an extra, and large.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from edge_runtime.commands.table_base import claim_table
from edge_runtime.errors import ConfigError, DataError
from edge_runtime.records import LabelledFrame
from edge_runtime.system.claims import let_go
from edge_runtime.system.files import sync_folder

PART_ROWS = 1000  # a killed run loses at most so many labels

_NEW_PART = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_PART = re.compile(r"part-(\d{6,})\.parquet")
_PARTIAL = re.compile(r"\.part-\d{6,}\.parquet\.part")


class ParquetTable:
    """Rows are held back until a part is full. With ``embeddings`` it has them as a column."""

    def __init__(self, folder: Path, *, embeddings: bool) -> None:
        self._arrow = _import_arrow()
        self._schema = _schema(self._arrow, embeddings=embeddings)
        self._embeddings = embeddings
        self._folder = folder
        self._rows: list[dict[str, Any]] = []

        folder.mkdir(parents=True, exist_ok=True)
        self._fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            claim_table(self._fd, folder)
            self._delete_partial_files()
            parts = self._parts()
            self.stored = {name for part in parts for name in self._names(part)}
        except BaseException:
            os.close(self._fd)
            raise
        self._next = _number(parts[-1]) + 1 if parts else 0

    def _delete_partial_files(self) -> None:
        """Delete what a killed run left of a part; only names that are surely ours."""
        for path in self._folder.iterdir():
            if _PARTIAL.fullmatch(path.name):
                path.unlink()

    def _parts(self) -> list[Path]:
        """The parts, in the order of their numbers: after part-999999 comes part-1000000."""
        parts = [path for path in self._folder.iterdir() if _PART.fullmatch(path.name)]
        return sorted(parts, key=_number)

    def _names(self, part: Path) -> list[str]:
        try:
            # Of a path with a colon Arrow makes a URL, so it gets an open file.
            with part.open("rb") as stream:
                table = self._arrow.parquet.read_table(stream)
        except (self._arrow.ArrowException, OSError) as error:
            raise DataError(
                f"{part}: is not a Parquet file that can be read",
                "delete it, or give another --output",
            ) from error
        if table.schema != self._schema:
            raise DataError(f"{part}: has other columns", "give another --output")
        names: list[str] = table.column("file").to_pylist()
        return names

    def write(self, name: str, labelled: LabelledFrame) -> None:
        """Add one row. Raises DataError when a full part cannot be stored."""
        record = labelled.record
        row = {
            "file": name,
            "state": record.state,
            "labels": record.to_dict()["labels"],
            "total_ms": record.ms.total,
            "bundle": record.bundle,
            "labels_id": record.labels_id,
        }
        if self._embeddings:
            embedding = labelled.embedding
            row["embedding"] = None if embedding is None else embedding.tolist()

        self._rows.append(row)
        if len(self._rows) >= PART_ROWS:
            self._write_part()

    def close(self) -> None:
        """Write the last part. Raises DataError when it cannot be stored."""
        try:
            if self._rows:
                self._write_part()
        finally:
            let_go(self._fd)

    def _write_part(self) -> None:
        table = self._arrow.Table.from_pylist(self._rows, schema=self._schema)
        target = self._folder / f"part-{self._next:06d}.parquet"
        partial = self._folder / f".{target.name}.part"
        try:
            with os.fdopen(os.open(partial, _NEW_PART, 0o666), "wb") as stream:
                self._arrow.parquet.write_table(table, stream)
                stream.flush()
                # Or a power cut could leave an empty part, which no --resume can read.
                os.fsync(stream.fileno())
            partial.replace(target)
            sync_folder(self._folder)
        except OSError as error:
            partial.unlink(missing_ok=True)
            raise DataError(
                f"{target}: cannot write: {error.strerror or error}",
                "make room, then continue with --resume",
            ) from error

        self._next += 1
        self._rows.clear()


def _number(part: Path) -> int:
    match = _PART.fullmatch(part.name)
    return int(match[1]) if match else 0


def _import_arrow() -> Any:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise ConfigError(
            "parquet: pyarrow is not installed",
            "pip install 'edge-label[parquet]', or write .jsonl",
        ) from error
    return pyarrow


def _schema(arrow: Any, *, embeddings: bool) -> Any:
    label = arrow.struct(
        [
            ("name", arrow.string()),
            ("score", arrow.float32()),
            ("margin", arrow.float32()),
            ("on", arrow.bool_()),
        ]
    )
    fields = [
        ("file", arrow.string()),
        ("state", arrow.string()),
        ("labels", arrow.list_(label)),
        ("total_ms", arrow.float32()),
        ("bundle", arrow.string()),
        ("labels_id", arrow.string()),
    ]
    if embeddings:
        fields.append(("embedding", arrow.list_(arrow.float32())))
    return arrow.schema(fields)
