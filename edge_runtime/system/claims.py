"""A file or folder that only one process writes to: claims with flock, and who holds one.

A claim lasts until it is let go or the process ends. The kernel then drops it, whatever happened.
"""

from __future__ import annotations

import errno
import fcntl
import os
import signal
from pathlib import Path

# Device and inode of what this process has claimed.
_mine: set[tuple[int, int]] = set()


class TakenError(OSError):
    """Another process writes there; ``strerror`` says which."""


def claim(fd: int) -> None:
    """Make an open file or folder this process's alone, until ``let_go(fd)`` or its end.

    Raises TakenError when another process has it. Raises BlockingIOError while an older sink of
    this process has it, as during a reload.

    Does nothing on a file system without locks, nor where the other process was killed and cannot
    end: that one writes no more.
    """
    facts = os.fstat(fd)
    inode = (facts.st_dev, facts.st_ino)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        if inode in _mine:
            raise
        pid = _holder(facts.st_ino)
        if not _was_killed(pid):
            raise TakenError(errno.EBUSY, f"{_described(pid)} writes there already") from error
        return
    except OSError:  # no locks on this file system
        return
    _mine.add(inode)


def claim_folder(folder: Path) -> int:
    """A descriptor of a folder that is this process's alone. Close it with `let_go`.

    Raises as `claim` does, and OSError.
    """
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        claim(fd)
    except OSError:
        os.close(fd)
        raise
    return fd


def let_go(fd: int) -> None:
    """Close what was opened, claimed or not."""
    facts = os.fstat(fd)
    _mine.discard((facts.st_dev, facts.st_ino))
    os.close(fd)


def _holder(inode: int) -> int | None:
    """The process that holds the lock, as the kernel lists it; None for one in another container.

    Only the inode is compared: on a layered file system the kernel lists another device than stat.
    """
    try:
        lines = Path("/proc/locks").read_text().splitlines()
        for fields in map(str.split, lines):
            if fields[1] == "FLOCK" and fields[5].endswith(f":{inode}"):
                return int(fields[4])
    except (OSError, ValueError, IndexError):
        pass
    return None


def _was_killed(pid: int | None) -> bool:
    """Whether a process only waits for a driver or a disk to let it end.

    It keeps its lock, but writes no more. Without this, a service whose camera driver hangs could
    never be started again.
    """
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
        status = dict(line.split(":", 1) for line in lines)
        pending = int(status["SigPnd"], 16) | int(status["ShdPnd"], 16)
    except (OSError, ValueError, KeyError):
        return False
    is_zombie = status["State"].split()[0] == "Z"
    return is_zombie or bool(pending & 1 << (signal.SIGKILL - 1))


def _described(pid: int | None) -> str:
    if pid is None:
        return "another process"
    try:
        name = Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return f"process {pid}"
    return f"process {pid} ({name})"
