"""Lines on disk that survive: a byte cap, rotation, a torn tail repaired, a full disk waited out.

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

log = logging.getLogger("edge_label.sinks")

_FLAGS = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
_LONGEST_LINE = 1 << 20
_OURS = b'{"schema"'
# A person's mistake: it will not go away by itself. All other errors (read-only, full, I/O) may, and are waited out.
_MISTAKES = {errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.EACCES, errno.EPERM, errno.ENAMETOOLONG, errno.ENXIO}
_FULL = {errno.ENOSPC, errno.EDQUOT}


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
    Raises ConfigError for a path that can never be written.
    """

    def __init__(self, path: Path, caps: Caps | None) -> None:
        self.path = path
        self.deleted = 0
        self._caps = caps
        self._fd: int | None = None
        self._size = 0
        self._older = 0  # bytes in the rotated files
        self._torn = False
        self._opened_s = self._synced_s = 0.0
        try:
            os.close(os.open(path, _FLAGS, 0o644))
        except OSError as error:
            if error.errno in _MISTAKES:
                advice = f"make the folder {path.parent}" if error.errno == errno.ENOENT else "choose another file"
                raise ConfigError(f"{path}: cannot write there: {error.strerror}; {advice}") from None
            log.warning("%s: %s; records are lost until that is over", path, error.strerror)

    def append(self, line: bytes) -> None:
        """Store one line, its newline included."""
        fd = self._open()
        if self._caps:
            if self._size and self._is_time_to_rotate(len(line), self._caps):
                fd = self._rotate(fd)
            self._keep_cap(len(line), self._caps)
        while True:
            try:
                self._write_whole(fd, line)
                break
            except OSError as error:  # others filled the disk: give our oldest records for the newest one
                if error.errno not in _FULL or self._caps is None or not self._delete_oldest():
                    raise
        self._sync(fd)

    def close(self) -> None:
        """Flush to the disk and let go."""
        if self._fd is not None:
            self._sync(self._fd, at_once=True)
            os.close(self._fd)
            self._fd = None

    def _open(self) -> int:
        """The descriptor to write to: a new one at the start, and after somebody rotated the file under us."""
        if self._fd is not None:
            facts = os.fstat(self._fd)
            try:
                now = self.path.stat()
                same = (now.st_dev, now.st_ino) == (facts.st_dev, facts.st_ino)
            except FileNotFoundError:
                same = False
            if same and not self._torn:
                self._size = facts.st_size
                return self._fd
            os.close(self._fd)
            self._fd = None
        fd = os.open(self.path, _FLAGS, 0o644)
        try:
            self._size = _repair(fd)
        except OSError:
            os.close(fd)
            raise
        self._torn = False
        self._fd = fd
        self._older = sum(_size_of(path) for path in self._rotated())
        self._opened_s = time.monotonic()
        return fd

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

    def _is_time_to_rotate(self, coming: int, caps: Caps) -> bool:
        return self._size + coming > caps.rotate or time.monotonic() - self._opened_s > caps.rotate_s

    def _rotate(self, fd: int) -> int:
        """Give the full file a number and begin a new one; if the disk refuses, go on in the old."""
        last = max(self._rotated().values(), default=0)
        try:
            self._sync(fd, at_once=True)
            self.path.rename(self.path.with_name(f"{self.path.stem}.{last + 1:06d}{self.path.suffix}"))
        except OSError:
            return fd
        os.close(fd)
        self._fd = None
        return self._open()

    def _keep_cap(self, coming: int, caps: Caps) -> None:
        if self._older + self._size + coming <= caps.total:
            return
        self._older = sum(_size_of(path) for path in self._rotated())  # somebody else may have tidied up
        while self._older + self._size + coming > caps.total:
            if not self._delete_oldest():
                raise OSError(errno.EFBIG, f"over the cap of {caps.total / 1e6:.0f} MB and nothing older to delete")

    def _delete_oldest(self) -> bool:
        for path in self._rotated():
            size = _size_of(path)
            try:
                path.unlink()
            except OSError:
                continue
            self._older -= size
            self.deleted += 1
            return True
        return False

    def _rotated(self) -> dict[Path, int]:
        """The older files and their numbers, oldest first."""
        shape = re.compile(re.escape(self.path.stem) + r"\.(\d{6,})" + re.escape(self.path.suffix))
        found = {path: int(match[1]) for path in self.path.parent.iterdir() if (match := shape.fullmatch(path.name))}
        return dict(sorted(found.items(), key=lambda item: item[1]))

    def _sync(self, fd: int, *, at_once: bool = False) -> None:
        """A power cut may cost ``sync_s`` seconds of records; syncing each would wear an SD card out."""
        now = time.monotonic()
        if at_once or now - self._synced_s >= (self._caps.sync_s if self._caps else 10.0):
            self._synced_s = now
            try:
                os.fdatasync(fd)
            except OSError:
                pass  # a pipe, or a disk that will say so at the next write


def _repair(fd: int) -> int:
    """Cut off a last line that a kill or a power cut left unfinished; returns the size of the file then."""
    facts = os.fstat(fd)
    if not stat.S_ISREG(facts.st_mode):
        return 0  # a pipe or a device has no tail to read
    size = facts.st_size
    tail = os.pread(fd, _LONGEST_LINE, max(0, size - _LONGEST_LINE))
    if not tail or tail.endswith(b"\n"):
        return size
    whole, torn = tail.rfind(b"\n") + 1, tail[tail.rfind(b"\n") + 1 :].rstrip(b"\0")
    if torn.startswith(_OURS) or _OURS.startswith(torn):
        size -= len(tail) - whole
        os.ftruncate(fd, size)
    else:  # not ours to cut: keep it as a line of its own
        size += os.write(fd, b"\n")
    return size


def _size_of(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0
