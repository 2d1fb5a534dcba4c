"""A file is replaced whole or not at all."""

import os
from pathlib import Path

import pytest

from edge_runtime.errors import DataError
from edge_runtime.system import files
from edge_runtime.system.files import write_atomically


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
    monkeypatch.setattr(
        os, "fsync", lambda fd: seen.append(os.fstat(fd).st_mode & 0o777) or fsync(fd)
    )
    created = []
    really_open = os.open
    monkeypatch.setattr(
        os,
        "open",
        lambda path, flags, mode=0o777: created.append(mode) or really_open(path, flags, mode),
    )
    write_atomically(tmp_path / "a", b"x", at_most=0o600)
    write_atomically(tmp_path / "b", b"x", mode=0o640)
    assert created == [0o600, 0o777, 0o600, 0o777]  # the folder is opened too, to be synced
    assert seen == [0o600, folder_mode, 0o640, folder_mode]


def test_a_pipe_a_device_and_a_standard_stream_are_written_to_and_never_replaced(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    write_atomically(pipe, b"page")
    assert os.read(reader, 100) == b"page"
    os.close(reader)
    with pytest.raises(DataError, match="No such device"):
        write_atomically(pipe, b"page")  # nobody reads
    assert pipe.is_fifo()
    assert files._stays_in_place(Path("/dev/null"))
    assert files._stays_in_place(Path("/dev/stdout"))
    assert files._stays_in_place(Path("/proc/self/fd/1"))


def test_a_link_that_somebody_planted_is_replaced_and_not_followed(tmp_path):
    link = tmp_path / "my.embeddings"
    link.symlink_to("/dev/null")
    write_atomically(link, b"rows")
    assert not link.is_symlink()
    assert link.read_bytes() == b"rows"
