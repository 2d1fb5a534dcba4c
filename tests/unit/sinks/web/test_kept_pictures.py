"""Kept pictures lie where `labels learn` looks, in the order of time."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from edge_runtime.errors import DataError, NoInputError
from edge_runtime.sinks.web import kept_pictures
from edge_runtime.sinks.web.kept_pictures import KeptPictures


def test_pictures_of_a_label_are_in_the_order_of_time_also_if_the_clock_goes_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    kept = KeptPictures(tmp_path)
    for i, now_s in enumerate((2_000_000_000, 5, 5)):
        monkeypatch.setattr(time, "time_ns", lambda now_s=now_s: now_s * 10**9)
        kept.keep("cat", bytes([i]))
    files = sorted((tmp_path / "cat").iterdir())
    assert [file.read_bytes() for file in files] == [b"\0", b"\1", b"\2"]
    kept.remove_newest("cat")
    assert sorted((tmp_path / "cat").iterdir()) == files[:2]


def test_pictures_of_an_earlier_run_are_counted_and_other_files_left_alone(tmp_path: Path):
    (tmp_path / "cat").mkdir()
    (tmp_path / "cat" / "mine.jpg").write_bytes(b"x")
    (tmp_path / "cat" / "notes.txt").write_bytes(b"x")
    kept = KeptPictures(tmp_path)
    assert kept.counts() == {"cat": 1}
    kept.keep("cat", b"y")
    kept.keep("", b"z")
    assert kept.counts() == {"cat": 2, "": 1}
    for _ in range(2):
        kept.remove_newest("cat") if kept.counts()["cat"] > 1 else None
    assert (tmp_path / "cat" / "notes.txt").exists()


def test_without_a_folder_there_is_none(tmp_path: Path):
    kept = KeptPictures(tmp_path / "not" / "yet")
    assert kept.counts() == {}
    with pytest.raises(NoInputError, match="no picture of 'cat' is kept"):
        kept.remove_newest("cat")


@pytest.mark.fault("E2")
def test_both_limits_hold_over_all_labels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(kept_pictures, "MAX_PICTURES", 3)
    monkeypatch.setattr(kept_pictures, "MAX_BYTES", 100)
    kept = KeptPictures(tmp_path)
    with pytest.raises(DataError, match="remove some first"):
        kept.keep("cat", b"x" * 101)
    for label in ("cat", "dog", ""):
        kept.keep(label, b"x" * 20)
    with pytest.raises(DataError, match="3 pictures with 0 MB are kept; at most 3"):
        kept.keep("cat", b"x")
