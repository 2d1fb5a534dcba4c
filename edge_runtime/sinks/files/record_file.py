"""A file of lines with a byte cap and rotation. A full disk keeps the newest lines."""

from __future__ import annotations

import errno
import logging
import os
import time
from dataclasses import dataclass
from pathlib import Path

from edge_runtime.errors import ConfigError
from edge_runtime.sinks.files import room
from edge_runtime.sinks.files.claimed import is_at, open_claimed
from edge_runtime.sinks.files.rotated import RotatedFiles
from edge_runtime.sinks.files.tail import RECORD_START, repair
from edge_runtime.system.claims import TakenError, let_go
from edge_runtime.system.files import FULL

log = logging.getLogger("edge_label.sinks")

_SMALLEST = 1 << 14  # bytes: a file takes a block of the disk and an inode however little it holds
# A person's mistake, which will not go away. Other errors (read-only, full, I/O) may, and we wait.
_MISTAKES = {
    errno.ENOENT,
    errno.ENOTDIR,
    errno.EISDIR,
    errno.EACCES,
    errno.EPERM,
    errno.ENAMETOOLONG,
    errno.ENXIO,
    errno.ELOOP,
}


@dataclass(frozen=True, slots=True)
class Caps:
    """How much may lie on the disk, in bytes and seconds."""

    total: int = 1_000_000_000  # bytes of the file and all rotated ones
    rotate: int = 50_000_000  # bytes of one file
    rotate_s: float = 86_400.0  # age of one file
    sync_s: float = 10.0  # records that a power cut may cost


class RecordFile:
    """Appends whole lines. With ``caps`` None (a finite run) no file is rotated or deleted.

    Raises ConfigError for a path that can never be written, or that another process writes to.
    """

    def __init__(self, path: Path, caps: Caps | None) -> None:
        self.path = path
        self.deleted = 0  # files deleted for room
        self._caps = caps
        self._fd: int | None = None
        self._size = 0
        self._rotated = RotatedFiles(path)
        self._torn = True  # the last line may be unfinished
        self._opened_s = 0.0
        self._synced_s = 0.0
        self._sync_failed = False
        try:
            self._fd = open_claimed(path)
        except TakenError as error:
            what = f"{path}: {error.strerror}"
            raise ConfigError(what, "stop that, or give another output.file") from error
        except BlockingIOError:
            pass  # the sink that a reload replaces has it, and closes before this one gets a record
        except OSError as error:
            if error.errno in _MISTAKES:
                raise _cannot_write(path, error) from error
            log.warning("%s: %s; records are lost until that is over", path, error.strerror)
        if caps:
            room.join(self)

    def append(self, line: bytes) -> None:
        """Store one line, its newline included.

        Raises OSError when that is impossible. The file then ends with the line before.
        """
        fd = self._open()
        if self._caps:
            if self._size and self._is_time_to_rotate(fd, len(line), self._caps):
                fd = self._rotate(fd)
            self._keep_cap(fd, len(line), self._caps)

        while True:
            try:
                self._write_whole(fd, line)
                break
            except OSError as error:
                # On a full disk the oldest records and captures make room for the newest line.
                if error.errno not in FULL or self._caps is None or not self._make_room(fd):
                    raise
        self._sync(fd)

    def close(self) -> None:
        """Flush to the disk and let go of the file."""
        room.leave(self)
        if self._fd is not None:
            self._sync(self._fd, now=True)
            self._let_go(self._fd)

    @property
    def folder(self) -> Path:
        """Where the files are."""
        return self.path.parent

    def oldest(self) -> tuple[float, float] | None:
        """When the oldest rotated file was written. The live file is not for others to give up."""
        return self._rotated.oldest()

    def give_up_oldest(self) -> bool:
        """Delete the oldest rotated file that can be deleted; False where there is none."""
        if not self._rotated.delete_oldest():
            return False
        self.deleted += 1
        return True

    def _open(self) -> int:
        """The descriptor to write to: a new one after another program rotated the file."""
        if self._fd is not None and not is_at(self._fd, self.path):
            self._let_go(self._fd)
        if self._fd is None:
            self._fd = open_claimed(self.path)
            self._torn = True
        if not self._torn:
            self._size = os.fstat(self._fd).st_size
            return self._fd

        self._size = repair(self._fd, self.path)
        self._torn = False
        self._begin_file()
        return self._fd

    def _begin_file(self) -> None:
        self._opened_s = time.monotonic()
        with room.lock:
            self._rotated.count()

    def _let_go(self, fd: int) -> None:
        self._fd = None
        let_go(fd)

    def _write_whole(self, fd: int, line: bytes) -> None:
        """Write all of the line or nothing of it."""
        rest = memoryview(line)
        try:
            while rest:
                rest = rest[os.write(fd, rest) :]
        except OSError:
            if len(rest) < len(line):
                # If the file cannot be cut now, the next append repairs it before anything else.
                self._torn = True
                os.ftruncate(fd, self._size)
                self._torn = False
            raise
        self._size += len(line)

    def _is_time_to_rotate(self, fd: int, line_bytes: int, caps: Caps) -> bool:
        # Early on a small disk, and on one that others fill: what is given up for room is then an
        # eighth of what fits there, and not all of it.
        disk = os.fstatvfs(fd)
        fits = disk.f_bavail * disk.f_frsize + self._rotated.bytes + self._size
        largest = min(caps.rotate, max(_SMALLEST, fits // 8))
        age_s = time.monotonic() - self._opened_s
        return self._size + line_bytes > largest or age_s > caps.rotate_s

    def _rotate(self, fd: int) -> int:
        """Give the full file a number and begin a new one; keep the old one if that fails."""
        fresh = self.path.with_name(f".{self.path.name}.new")
        try:
            older = self._rotated.next_path()
        except PermissionError:  # which number is free, only a list of the folder tells
            return fd
        try:
            self._sync(fd, now=True)
            # Claim it before it has its name: a program that starts just now must not get it first.
            new = open_claimed(fresh)
        except OSError:
            return fd
        try:
            self.path.rename(older)
            self._rotated.add(older)
            fresh.rename(self.path)
        except OSError:
            let_go(new)
            fresh.unlink(missing_ok=True)
            return self._open()

        self._let_go(fd)
        self._fd = new
        self._size = 0
        self._begin_file()
        return new

    def _keep_cap(self, fd: int, line_bytes: int, caps: Caps) -> None:
        if not self._is_over(line_bytes, caps):
            return
        with room.lock:
            self._rotated.count()
            while self._is_over(line_bytes, caps):
                if not (self.give_up_oldest() or self._empty_live_file(fd)):
                    cap = f"the cap of {caps.total / 1e6:.0f} MB"
                    raise OSError(errno.EFBIG, f"over {cap} and nothing older to delete")

    def _is_over(self, line_bytes: int, caps: Caps) -> bool:
        return self._rotated.bytes + self._size + line_bytes > caps.total

    def _make_room(self, fd: int) -> bool:
        """Have the disk give up something older than the line that is to be written."""
        return room.make_room(self.folder) or self._empty_live_file(fd)

    def _empty_live_file(self, fd: int) -> bool:
        """Empty the live file where there is nothing else to give up; False if it is not ours."""
        if not self._size or os.pread(fd, len(RECORD_START), 0) != RECORD_START:
            return False
        os.ftruncate(fd, 0)
        self._size = 0
        self.deleted += 1
        return True

    def _sync(self, fd: int, *, now: bool = False) -> None:
        """Sync the file every ``sync_s`` seconds: after every line it would wear out an SD card."""
        now_s = time.monotonic()
        sync_s = (self._caps or Caps()).sync_s
        if not now and now_s - self._synced_s < sync_s:
            return

        self._synced_s = now_s
        try:
            os.fdatasync(fd)
        except OSError as error:
            if error.errno == errno.EINVAL or self._sync_failed:  # a pipe has nothing to sync
                return
            self._sync_failed = True
            log.warning(
                "%s: the disk does not confirm what was written: %s", self.path, error.strerror
            )


def _cannot_write(path: Path, error: OSError) -> ConfigError:
    advice = "choose another file"
    if error.errno == errno.ENOENT:
        advice = f"make the folder {path.parent}"
    return ConfigError(f"{path}: cannot write there: {error.strerror}", advice)
