"""Opening a file to append to, for this process alone."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from edge_runtime.system.claims import claim, let_go
from edge_runtime.system.files import sync_folder
from edge_runtime.system.ownership import no_planted_link

_FLAGS = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC


def open_claimed(path: Path) -> int:
    """A descriptor to append with, claimed for this process. Close it with `let_go`.

    A pipe or a device is opened and not claimed: any number of programs may share it. Raises
    OSError; TakenError when another process has claimed the file; BlockingIOError when a sink of
    this one has.
    """
    while True:
        fd = os.open(path, _FLAGS | no_planted_link(path), 0o644)
        try:
            status = os.fstat(fd)
            if not stat.S_ISREG(status.st_mode):
                return fd
            claim(fd)
            if not status.st_size:
                _sync_name(path)
            if is_at(fd, path):
                return fd
        except OSError:
            os.close(fd)
            raise
        # The process that had it rotated it between our open and our claim. Try the new one.
        let_go(fd)


def is_at(fd: int, path: Path) -> bool:
    """Whether the open file is still the one at ``path``."""
    try:
        status = path.stat()
    except FileNotFoundError:
        return False
    return os.path.samestat(status, os.fstat(fd))


def _sync_name(path: Path) -> None:
    try:
        sync_folder(path.parent)
    except OSError:
        pass  # the next write to this disk will fail too, and say so
