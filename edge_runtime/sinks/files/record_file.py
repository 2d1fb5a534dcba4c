"""Lines on disk that survive: a byte cap, rotation, a torn tail repaired, a full disk that keeps the newest.

``run.jsonl`` is written; the older ones beside it are ``run.000001.jsonl``, ``run.000002.jsonl`` ..., numbered and not
dated, because a clock that boots in 1970 sorts nothing.
"""

from __future__ import annotations

import errno
import logging
import os
import re
import stat
import time
from dataclasses import dataclass
from pathlib import Path

from edge_runtime.errors import ConfigError
from edge_runtime.sinks.files import room
from edge_runtime.system.files import FULL, TakenError, claim, let_go, sync_folder
from edge_runtime.system.ownership import no_planted_link

log = logging.getLogger("edge_label.sinks")

_FLAGS = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
_BLOCK = 1 << 16
_SMALLEST = 1 << 14  # bytes: a file takes a block of the disk and an inode however little it holds
_OURS = b'{"schema"'
# A person's mistake: it will not go away by itself. All other errors (read-only, full, I/O) may, and are waited out.
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

    total: int = 1_000_000_000
    rotate: int = 50_000_000
    rotate_s: float = 86_400.0
    sync_s: float = 10.0


class RecordFile:
    """Appends whole lines. With ``caps`` None (a finite run over a file) nothing is rotated, nothing deleted.

    ``append`` raises OSError when the line could not be stored; the file then ends with the line before it.
    Raises ConfigError for a path that can never be written, or that another process writes to.
    """

    def __init__(self, path: Path, caps: Caps | None) -> None:
        self.path = path
        self.deleted = 0
        self._caps = caps
        self._fd: int | None = None
        self._size = 0
        self._older = 0  # bytes in the rotated files
        self._rotated_s: dict[str, float] = {}  # by name: when this run gave the file its number
        self._torn = True
        self._unsynced = False
        self._opened_s = self._synced_s = 0.0
        try:
            self._fd = _claimed(path)
        except TakenError as error:
            raise ConfigError(
                f"{path}: {error.strerror}", "stop that, or give another output.file"
            ) from None
        except (
            BlockingIOError
        ):  # by the sink that a reload replaces: it is closed before this one gets a record
            pass
        except OSError as error:
            if error.errno in _MISTAKES:
                advice = (
                    f"make the folder {path.parent}"
                    if error.errno == errno.ENOENT
                    else "choose another file"
                )
                raise ConfigError(
                    f"{path}: cannot write there: {error.strerror}", f"{advice}"
                ) from None
            log.warning("%s: %s; records are lost until that is over", path, error.strerror)
        if caps:
            room.join(self)

    def append(self, line: bytes) -> None:
        """Store one line, its newline included."""
        fd = self._open()
        if self._caps:
            if self._size and self._is_time_to_rotate(fd, len(line), self._caps):
                fd = self._rotate(fd)
            self._keep_cap(fd, len(line), self._caps)

        while True:
            try:
                self._write_whole(fd, line)
                break
            except OSError as error:  # our oldest records and captures for the newest one
                if error.errno not in FULL or self._caps is None or not self._make_room(fd):
                    raise
        self._sync(fd)

    def close(self) -> None:
        """Flush to the disk and let go."""
        room.leave(self)
        if self._fd is not None:
            self._sync(self._fd, at_once=True)
            self._let_go(self._fd)

    def _open(self) -> int:
        """The descriptor to write to: a new one at the start, and after somebody rotated the file under us."""
        if self._fd is not None and not _is_at(self._fd, self.path):
            self._let_go(self._fd)
        if self._fd is None:
            self._fd = _claimed(self.path)
            self._torn = True
        if not self._torn:
            self._size = os.fstat(self._fd).st_size
            return self._fd

        self._size = _repair(self._fd, self.path)
        self._torn = False
        self._begun()
        return self._fd

    def _begun(self) -> None:
        self._opened_s = time.monotonic()
        with room.lock:
            self._older = sum(_size_of(path) for path in self._rotated())

    def _let_go(self, fd: int) -> None:
        self._fd = None
        let_go(fd)

    def _write_whole(self, fd: int, line: bytes) -> None:
        """All of the line or nothing of it."""
        rest = memoryview(line)
        try:
            while rest:
                rest = rest[os.write(fd, rest) :]
        except OSError:
            if len(rest) < len(line):
                self._torn = True  # the next append repairs it before anything else
                os.ftruncate(fd, self._size)
                self._torn = False
            raise
        self._size += len(line)

    def _is_time_to_rotate(self, fd: int, coming: int, caps: Caps) -> bool:
        # Early on a small disk, and on one that others fill: what is given up for room is then an eighth of what
        # fits there, not all of it.
        disk = os.fstatvfs(fd)
        fits = disk.f_bavail * disk.f_frsize + self._older + self._size
        full = min(caps.rotate, max(_SMALLEST, fits // 8))
        return self._size + coming > full or time.monotonic() - self._opened_s > caps.rotate_s

    def _rotate(self, fd: int) -> int:
        """Give the full file a number and begin a new one; if the disk refuses, go on in the old."""
        try:
            last = max(self._numbered().values(), default=0)
        except PermissionError:  # which number is free, only a list of the folder tells
            return fd
        older = self.path.with_name(f"{self.path.stem}.{last + 1:06d}{self.path.suffix}")
        fresh = self.path.with_name(f".{self.path.name}.new")
        try:
            self._sync(fd, at_once=True)
            # Before it has its name: a program that starts just now must not get it first.
            new = _claimed(fresh)
        except OSError:
            return fd
        try:
            self.path.rename(older)
            self._rotated_s[older.name] = time.monotonic()
            fresh.rename(self.path)
        except OSError:
            let_go(new)
            fresh.unlink(missing_ok=True)
            return self._open()

        self._let_go(fd)
        self._fd = new
        self._size = 0
        self._begun()
        return new

    def _keep_cap(self, fd: int, coming: int, caps: Caps) -> None:
        if self._older + self._size + coming <= caps.total:
            return
        with room.lock:
            self._older = sum(
                _size_of(path) for path in self._rotated()
            )  # somebody else may have tidied up
            while self._older + self._size + coming > caps.total:
                if not (self.give_up_oldest() or self._give_up_all(fd)):
                    raise OSError(
                        errno.EFBIG,
                        f"over the cap of {caps.total / 1e6:.0f} MB and nothing older to delete",
                    )

    def _make_room(self, fd: int) -> bool:
        """Have the disk give up something older than the line that is to be written."""
        return room.make_room(self.folder) or self._give_up_all(fd)

    @property
    def folder(self) -> Path:
        """Where the files are."""
        return self.path.parent

    def oldest(self) -> tuple[float, float] | None:
        """When the oldest rotated file was written; see room.py. The live file is not for others to give up."""
        for path in self._rotated():
            try:
                return self._rotated_s.get(path.name, 0.0), path.stat().st_mtime
            except OSError:  # somebody else may have tidied up
                continue
        return None

    def give_up_oldest(self) -> bool:
        """Delete the oldest rotated file that can be deleted; False where there is none."""
        for path in self._rotated():
            size = _size_of(path)
            try:
                path.unlink()
            except OSError:
                continue
            self._older -= size
            self._rotated_s.pop(path.name, None)
            self.deleted += 1
            return True
        return False

    def _give_up_all(self, fd: int) -> bool:
        """Empty the live file where there is nothing else to give up; False if it is not ours."""
        if not self._size or os.pread(fd, len(_OURS), 0) != _OURS:
            return False
        os.ftruncate(fd, 0)
        self._size = 0
        self.deleted += 1
        return True

    def _rotated(self) -> list[Path]:
        """The older files, oldest first. What has such a name and was not written by us is not ours to delete."""
        try:
            numbered = self._numbered()
        except PermissionError:  # one may write into a folder that one may not list
            return []
        return sorted(
            (path for path in numbered if _is_ours(path)), key=lambda path: numbered[path]
        )

    def _numbered(self) -> dict[Path, int]:
        """Every file with the name of an older one, and its number. Eight digits are a date: that copy is not ours."""
        shape = re.compile(
            re.escape(self.path.stem) + r"\.(\d{6}|[1-9]\d{6})" + re.escape(self.path.suffix)
        )
        found = ((path, shape.fullmatch(path.name)) for path in self.folder.iterdir())
        return {path: int(match[1]) for path, match in found if match}

    def _sync(self, fd: int, *, at_once: bool = False) -> None:
        """A power cut may cost ``sync_s`` seconds of records; syncing each would wear an SD card out."""
        now = time.monotonic()
        if at_once or now - self._synced_s >= (self._caps.sync_s if self._caps else 10.0):
            self._synced_s = now
            try:
                os.fdatasync(fd)
            except OSError as error:
                if error.errno != errno.EINVAL and not self._unsynced:  # a pipe has nothing to sync
                    self._unsynced = True
                    log.warning(
                        "%s: the disk does not confirm what was written: %s",
                        self.path,
                        error.strerror,
                    )


def _claimed(path: Path) -> int:
    """A descriptor to append with, claimed for this process. Raises OSError, TakenError, BlockingIOError."""
    while True:
        fd = os.open(path, _FLAGS | no_planted_link(path), 0o644)
        try:
            facts = os.fstat(fd)
            if not stat.S_ISREG(facts.st_mode):
                return fd  # a pipe or a device, which any number of programs may share
            claim(fd)
            if not facts.st_size:
                _sync_name(path)
            if _is_at(fd, path):
                return fd
        except OSError:
            os.close(fd)
            raise
        let_go(fd)  # its owner rotated it before we had it


def _sync_name(path: Path) -> None:
    try:
        sync_folder(path.parent)
    except OSError:
        pass  # a disk that will say so at the next write


def _is_at(fd: int, path: Path) -> bool:
    """Whether the open file is still the one at ``path``."""
    try:
        there = path.stat()
    except FileNotFoundError:
        return False
    return os.path.samestat(there, os.fstat(fd))


def _repair(fd: int, path: Path) -> int:
    """Cut off a last line that a kill or a power cut left unfinished; returns the size of the file then.

    ext4 and FAT may leave zeros, megabytes of them, where the size of a file reached the disk before its data.
    """
    facts = os.fstat(fd)
    if not stat.S_ISREG(facts.st_mode):
        return 0  # a pipe or a device has no tail to read
    size = facts.st_size
    whole, end = _tail(fd, size)
    if whole == size:
        return size
    torn = os.pread(fd, min(len(_OURS), end - whole), whole)
    if _OURS.startswith(torn):
        os.ftruncate(fd, whole)
        log.warning("%s: its last %d bytes are no whole record and are cut off", path, size - whole)
        return whole
    return size + os.write(fd, b"\n")  # not ours to cut: keep it as a line of its own


def _tail(fd: int, size: int) -> tuple[int, int]:
    """(where the unfinished last line begins, where it ends if its trailing zeros are left out)."""
    end = at = size
    while at:
        start = max(0, at - _BLOCK)
        block = os.pread(fd, at - start, start)
        if end == at:  # nothing but zeros so far
            end = start + len(block.rstrip(b"\0"))
        newline = block.rfind(b"\n")
        if newline >= 0:
            return start + newline + 1, end
        at = start
    return 0, end


def _is_ours(path: Path) -> bool:
    try:
        with path.open("rb") as stream:
            return stream.read(len(_OURS)) == _OURS
    except OSError:
        return False


def _size_of(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0
