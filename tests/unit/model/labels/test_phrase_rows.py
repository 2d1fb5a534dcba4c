"""The rows beside a label set are read back as written, or refused in one line."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from edge_runtime.errors import ConfigError
from edge_runtime.model.labels.phrase_rows import MAX_BYTES, PhraseRows, rows_path

ROWS = PhraseRows(
    phrases=("crimson", "雪道"),
    rows=np.eye(2, 16, dtype=np.float16),
    encoder="tiny-text-1.0.0",
    approximate=True,
    text_space="test/tiny",
    request="hash",
    pictured=("crimson",),
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    file = rows_path(tmp_path / "my.yaml")
    ROWS.write(file)
    return file


def test_rows_are_read_as_they_were_written(path: Path):
    rows = PhraseRows.read(path)

    assert path.name == "my.embeddings"
    assert rows is not None
    assert (rows.phrases, rows.pictured, rows.approximate) == (ROWS.phrases, ROWS.pictured, True)
    np.testing.assert_array_equal(rows.rows, ROWS.rows)


def test_no_file_means_no_rows(tmp_path: Path):
    assert PhraseRows.read(tmp_path / "none.embeddings") is None


def test_half_a_file_and_a_changed_byte_are_refused(path: Path):
    data = path.read_bytes()

    for damaged in (data[:-1], data[:40], data[:-1] + b"x", b"", b"[" * 100_000):
        path.write_bytes(damaged)
        with pytest.raises(ConfigError, match=r"damaged .*; run: edge-label labels build"):
            PhraseRows.read(path)


def test_a_file_over_its_limit_and_a_pipe_are_not_read(path: Path):
    os.truncate(path, MAX_BYTES + 1)
    with pytest.raises(ConfigError, match="more than 256 MB"):
        PhraseRows.read(path)

    path.unlink()
    os.mkfifo(path)
    with pytest.raises(ConfigError, match="not a file"):
        PhraseRows.read(path)
