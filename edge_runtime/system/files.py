"""Reading files that may be anything, and writing so that the old file stays whole.

Which process may write to a file that stays open is in ``claims.py``.
"""

from __future__ import annotations

import errno
import os
import select
import stat
from pathlib import Path

from edge_runtime.errors import DataError

FULL = {errno.ENOSPC, errno.EDQUOT}  # the errors that room on the disk would heal
PIPE_S = 2.0  # how long a shell's <(command) may take for each piece of its output
_READ_BYTES = 1 << 20
_BLOCK = 1 << 16  # bytes read at a time when looking for the last newline

# A new file, never one that is there, and never through a link: the folder may be another user's.
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


def read_capped(path: Path, most: int) -> bytes:
    """The bytes of a file, or of a pipe that somebody writes to; ``most`` + 1 where there are more.

    Raises OSError, also for what has no end or never begins: a device, a folder, a pipe without a
    writer.
    """
    # O_NONBLOCK: without a writer, even opening a pipe would wait for ever.
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        mode = os.fstat(fd).st_mode
        if stat.S_ISDIR(mode):
            raise IsADirectoryError(errno.EISDIR, "it is a folder, not a file", str(path))
        if not (stat.S_ISREG(mode) or stat.S_ISFIFO(mode)):
            raise OSError(errno.EINVAL, "it is a device, not a file", str(path))

        data = bytearray()
        while piece := _read_piece(fd, path, most + 1 - len(data)):
            data += piece
        if stat.S_ISFIFO(mode) and not data:
            raise TimeoutError(errno.ETIMEDOUT, "nobody writes to this pipe", str(path))
        return bytes(data)
    finally:
        os.close(fd)


def _read_piece(fd: int, path: Path, most: int) -> bytes:
    ready, _, _ = select.select([fd], [], [], PIPE_S)
    if not ready:
        raise TimeoutError(errno.ETIMEDOUT, "nobody writes to this pipe", str(path))
    return os.read(fd, min(most, _READ_BYTES))


def is_special(path: Path) -> bool:
    """Whether ``path`` is there and neither a file nor a folder.

    A library that opens a pipe may wait for ever.
    """
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError):  # ValueError: a NUL byte in the path
        return False
    return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))


def write_atomically(
    path: Path, data: bytes, *, mode: int | None = None, at_most: int = 0o666, durable: bool = True
) -> None:
    """Write beside ``path``, flush to disk, rename over it.

    ``mode`` overrides the umask; ``at_most`` only takes from what the umask allows. Nobody may read
    the file before its mode is right. Without ``durable`` nothing is forced to disk: for what is
    soon written again.

    A pipe or a device is written to as it stands: as root, a rename would put a file in the place
    of /dev/null. Raises DataError; the old file is then unchanged.
    """
    if _stays_in_place(path):
        _write_through(path, data)
        return

    partial = path.with_name(f".{path.name}.{os.getpid()}-{os.urandom(4).hex()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _write_new(partial, data, mode, at_most, durable)
        _replace(partial, path)
    except OSError as error:
        raise DataError(
            f"{path}: cannot write: {error.strerror}", "the old file is unchanged"
        ) from error
    if durable:
        _confirm(path)


def _write_new(path: Path, data: bytes, mode: int | None, at_most: int, durable: bool) -> None:
    """Create ``path`` with ``data``, or leave nothing. Raises OSError."""
    # With a mode of its own the file is closed to others until fchmod has set it.
    fd = os.open(path, _NEW, at_most if mode is None else 0o600)
    try:
        with os.fdopen(fd, "wb") as stream:
            if mode is not None:
                os.fchmod(fd, mode)
            stream.write(data)
            stream.flush()
            if durable:
                os.fsync(fd)
    except BaseException:
        _forget(path)
        raise


def _replace(partial: Path, path: Path) -> None:
    try:
        partial.replace(path)
    except BaseException:
        _forget(partial)
        raise


def _confirm(path: Path) -> None:
    """Force the new name to the disk. Raises DataError."""
    try:
        sync_folder(path.parent)
    except OSError as error:
        raise DataError(
            f"{path}: written, but the disk does not confirm it: {error.strerror}"
        ) from error


def _stays_in_place(path: Path) -> bool:
    """Whether ``path`` is a pipe or a device, which a rename must not replace.

    Of links, only those of the system itself are followed: another user may have planted any other.
    """
    if path.is_symlink():
        return path.is_relative_to("/dev") or path.is_relative_to("/proc")
    return is_special(path)


def _write_through(path: Path, data: bytes) -> None:
    try:
        # O_NONBLOCK: a pipe may have no reader, and opening it would wait for one.
        fd = os.open(path, os.O_WRONLY | os.O_TRUNC | os.O_NONBLOCK | os.O_CLOEXEC)
        os.set_blocking(fd, True)
        with os.fdopen(fd, "wb") as stream:
            stream.write(data)
    except OSError as error:
        raise DataError(f"{path}: cannot write: {error.strerror}") from error


def _forget(partial: Path) -> None:
    try:
        partial.unlink(missing_ok=True)
    except OSError:  # the error that brought us here is the one to report
        pass


def sync_folder(folder: Path) -> None:
    """Force the names in a folder to the disk: a synced file can still be without its name.

    Raises OSError.
    """
    try:
        fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except PermissionError:  # one may write into a folder that one may not list
        return
    try:
        os.fsync(fd)
    except OSError as error:
        if error.errno != errno.EINVAL:  # some network file systems cannot sync a folder
            raise
    finally:
        os.close(fd)


def unfinished_line(fd: int, size: int) -> tuple[int, int]:
    """Where the unfinished last line of a file begins, and where it ends without trailing zeros.

    Both are offsets; they are ``size`` where the file ends with a newline. The file is read
    backwards, in blocks.
    """
    end = size
    at = size
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
