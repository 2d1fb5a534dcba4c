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


def test_nobody_may_read_a_private_file_before_it_is_whole(tmp_path, monkeypatch):
    """Not even for the moment between the first byte and a chmod."""
    folder_mode = tmp_path.stat().st_mode & 0o777
    seen = []
    fsync = os.fsync
    monkeypatch.setattr(os, "fsync", lambda fd: seen.append(os.fstat(fd).st_mode & 0o777) or fsync(fd))
    created = []
    really_open = os.open
    monkeypatch.setattr(
        os, "open", lambda path, flags, mode=0o777: created.append(mode) or really_open(path, flags, mode)
    )
    write_atomically(tmp_path / "a", b"x", at_most=0o600)
    write_atomically(tmp_path / "b", b"x", mode=0o640)
    assert created == [0o600, 0o777, 0o600, 0o777]  # the folder is opened too, to be synced
    assert seen == [0o600, folder_mode, 0o640, folder_mode]
