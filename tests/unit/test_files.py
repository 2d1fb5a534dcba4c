"""A file is replaced whole or not at all."""

import os

import pytest

from edge_runtime.errors import DataError
from edge_runtime.files import write_atomically


def test_a_failed_write_leaves_the_old_file_and_no_part_behind(tmp_path, monkeypatch):
    path = tmp_path / "labels.bin"
    write_atomically(path, b"old")

    def full(_descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(DataError, match="No space left"):
        write_atomically(path, b"new")
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["labels.bin"]


def test_the_parent_folder_is_made(tmp_path):
    write_atomically(tmp_path / "a" / "b", b"x")
    assert (tmp_path / "a" / "b").read_bytes() == b"x"
