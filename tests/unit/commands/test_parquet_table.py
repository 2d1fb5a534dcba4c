"""A Parquet table is a folder of whole parts."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from edge_runtime.commands.parquet_table import ParquetTable, _schema
from tests.unit.commands.pictures import once


def test_parquet_holds_labels_and_embeddings(
    tiny_bundle: Path, folder: Path, tmp_path: Path, monkeypatch
):
    from pyarrow import parquet

    monkeypatch.setattr("edge_runtime.commands.parquet_table.PART_ROWS", 10)
    output = tmp_path / "out.parquet"
    once(tiny_bundle, folder, "--output", output, "--embeddings")
    assert len(list(output.glob("part-*.parquet"))) == 3
    rows = parquet.read_table(output).to_pylist()
    assert len(rows) == 29
    for row in rows:
        assert row["labels"][0]["name"] in row["file"]
        assert np.linalg.norm(row["embedding"]) == pytest.approx(1, abs=1e-5)


def test_without_pyarrow_the_error_says_what_to_do(
    tiny_bundle, folder, tmp_path: Path, capsys, monkeypatch
):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    assert once(tiny_bundle, folder, "--output", tmp_path / "x.parquet") == 78
    assert "pip install 'edge-label[parquet]'" in capsys.readouterr().err


def test_a_parquet_folder_keeps_what_is_not_ours(tiny_bundle, folder, tmp_path: Path):
    output = tmp_path / "out.parquet"
    output.mkdir()
    theirs = (output / ".download.part", output / "part-of-a-song.parquet")
    for path in theirs:
        path.write_text("theirs")
    (output / ".part-000000.parquet.part").write_text("torn")
    assert once(tiny_bundle, folder, "--output", output, "--resume") == 0
    assert [path.read_text() for path in theirs] == ["theirs", "theirs"]
    assert len(list(output.glob(".part-*"))) == 0


def test_a_folder_with_a_million_parts_is_continued_after_the_last(tmp_path: Path):
    pyarrow = pytest.importorskip("pyarrow", reason="needs pyarrow")
    pytest.importorskip("pyarrow.parquet", reason="needs pyarrow")
    folder = tmp_path / "out.parquet"
    folder.mkdir()
    for name in ("part-1000000.parquet", "part-999999.parquet"):
        schema = _schema(pyarrow, embeddings=False)
        pyarrow.parquet.write_table(schema.empty_table(), folder / name)
    table = ParquetTable(folder, embeddings=False)
    assert table._next == 1_000_001
    table.close()
