"""A text table stays whole on a full disk, and a file that is not ours stays as it was."""

from __future__ import annotations

import csv
import resource
from pathlib import Path

import pytest

from edge_runtime.commands.text_tables import CSV_COLUMNS, cut_torn_line
from tests.unit.commands.pictures import names, once


def test_csv_rows_say_what_is_on(tiny_bundle: Path, folder: Path, tmp_path: Path):
    output = tmp_path / "out.csv"
    once(tiny_bundle, folder, "--output", output)
    with output.open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert tuple(rows[0]) == CSV_COLUMNS
    for row in rows:
        colour = Path(row["file"]).stem.split("-")[1]
        assert (row["label"], row["on"], row["state"]) == (colour, colour, "ok")
        assert float(row["score"]) > 0.5


@pytest.mark.parametrize("name", ["there.csv", "there.jsonl"])
def test_a_table_that_is_no_text_is_one_line(
    tiny_bundle, folder, tmp_path: Path, capsys, name: str
):
    (tmp_path / name).write_bytes(b"\xff\xfe\x00" * 99 + b"\n")
    assert once(tiny_bundle, folder, "--output", tmp_path / name, "--resume") == 65
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize("suffix", [".jsonl", ".csv"])
def test_a_full_disk_is_one_line_and_can_be_gone_on_from(
    tiny_bundle, folder, tmp_path: Path, capsys, suffix: str
):
    """RLIMIT_FSIZE is the disk: it lets a part of a line through."""
    output = tmp_path / f"out{suffix}"
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        assert once(tiny_bundle, folder, "--output", output) == 65
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    error = capsys.readouterr().err.splitlines()[-1]
    assert error == (
        f"edge-label: {output}: cannot write: File too large; what it holds is whole; "
        "make room, then continue with --resume"
    )
    assert output.read_bytes().endswith(b"\n")
    assert len(names(output)) >= 1
    assert once(tiny_bundle, folder, "--output", output, "--resume") == 0
    assert len(set(names(output))) == len(names(output)) == 29


@pytest.mark.parametrize("name", ["notes.jsonl", "notes.csv"])
def test_a_table_that_is_not_ours_is_refused_and_stays_as_it_was(
    tiny_bundle, folder, tmp_path: Path, name: str
):
    theirs = tmp_path / name
    theirs.write_text("first line\nlast line without an end")
    assert once(tiny_bundle, folder, "--output", theirs, "--resume") == 65
    assert theirs.read_text() == "first line\nlast line without an end"


@pytest.mark.parametrize(
    ("before", "after"),
    [(b"", b""), (b"a\nb\n", b"a\nb\n"), (b"a\nb", b"a\n"), (b"x" * 100_000, b""), (b"\n", b"\n")],
)
def test_only_what_follows_the_last_newline_is_cut(tmp_path: Path, before: bytes, after: bytes):
    path = tmp_path / "table"
    path.write_bytes(before)
    with path.open("r+b") as stream:
        cut_torn_line(stream.fileno(), path, b"")
    assert path.read_bytes() == after
