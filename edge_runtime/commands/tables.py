"""Records as tables that other programs read: JSON lines, CSV, or a folder of Parquet files.

A table knows the pictures it already holds, so that an interrupted run can be continued. The
formats are in ``text_tables.py`` and ``parquet_table.py``.
"""

from __future__ import annotations

from pathlib import Path

from edge_runtime.commands.parquet_table import ParquetTable
from edge_runtime.commands.table_base import Table
from edge_runtime.commands.text_tables import CsvTable, JsonlTable
from edge_runtime.errors import DataError, UsageError

SUFFIXES = (".jsonl", ".csv", ".parquet")


def open_table(path: Path, *, resume: bool, embeddings: bool) -> Table:
    """The table that ``path``'s suffix asks for.

    Raises UsageError for another suffix or for a file that exists without ``resume``, ConfigError
    when pyarrow is missing or another process writes there, DataError when the file is not such a
    table.
    """
    if path.suffix not in SUFFIXES:
        raise UsageError(f"{path}: unknown kind of table", f"end it in {', '.join(SUFFIXES)}")
    if embeddings and path.suffix != ".parquet":
        raise UsageError(
            "--embeddings needs a .parquet output", "numbers as text would be ten times the size"
        )
    if path.exists() and not resume:
        raise UsageError(
            f"{path}: already exists", "--resume continues it, or give another --output"
        )

    try:
        if path.suffix == ".parquet":
            return ParquetTable(path, embeddings=embeddings)
        return CsvTable(path) if path.suffix == ".csv" else JsonlTable(path)
    except OSError as error:
        raise DataError(
            f"{path}: cannot write there: {error.strerror}", "choose another file or folder"
        ) from error
