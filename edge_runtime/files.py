"""Reading files that may be anything, and writing so that a crash or a full disk leaves the old one whole."""

from __future__ import annotations

import errno
import os
import select
import stat
from pathlib import Path

from edge_runtime.errors import DataError

_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
PIPE_S = 2.0  # what a shell's <(command) gets for each piece of its output


def read_capped(path: Path, most: int) -> bytes:
    """The bytes of a file, or of a pipe that somebody writes to; ``most`` + 1 of them where there are more.

    Raises OSError, also for what has no end or never begins: a device, a folder, a pipe without a writer.
    """
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)  # a pipe without a writer blocks even the opening
    try:
        kind = os.fstat(fd).st_mode
        if stat.S_ISDIR(kind):
            raise IsADirectoryError(errno.EISDIR, "it is a folder, not a file", str(path))
        if not (stat.S_ISREG(kind) or stat.S_ISFIFO(kind)):
            raise OSError(errno.EINVAL, "it is a device, not a file", str(path))
        found = bytearray()
        while piece := _piece(fd, path, most + 1 - len(found)):
            found += piece
        if stat.S_ISFIFO(kind) and not found:
            raise TimeoutError(errno.ETIMEDOUT, "nobody writes to this pipe", str(path))
        return bytes(found)
    finally:
        os.close(fd)


def _piece(fd: int, path: Path, most: int) -> bytes:
    ready, _, _ = select.select([fd], [], [], PIPE_S)
    if not ready:
        raise TimeoutError(errno.ETIMEDOUT, "nobody writes to this pipe", str(path))
    return os.read(fd, min(most, 1 << 20))


def is_special(path: Path) -> bool:
    """Is there something that is neither a file nor a folder? A library that opens a pipe may wait for ever."""
    try:
        kind = path.stat().st_mode
    except (OSError, ValueError):
        return False
    return not (stat.S_ISREG(kind) or stat.S_ISDIR(kind))


def write_atomically(
    path: Path, data: bytes, *, mode: int | None = None, at_most: int = 0o666, durable: bool = True
) -> None:
    """Write beside ``path``, flush to disk, rename over it. Raises DataError; what stood there is then unchanged.

    ``mode`` overrides the umask, ``at_most`` only takes from what it allows. Nobody may read the file before its mode
    is right. Without ``durable`` nothing is forced to disk: for what is soon written again.
    """
    partial = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial.unlink(missing_ok=True)  # of a process of the same number that was killed; its mode would stay
        first_mode = at_most if mode is None else 0o600
        with os.fdopen(os.open(partial, _NEW, first_mode), "wb") as stream:
            if mode is not None:
                os.fchmod(stream.fileno(), mode)
            stream.write(data)
            stream.flush()
            if durable:
                os.fsync(stream.fileno())
        partial.replace(path)
    except OSError as error:
        try:
            partial.unlink(missing_ok=True)
        except OSError:  # where a folder of the path is a file, there is nothing to take away either
            pass
        raise DataError(f"{path}: cannot write: {error.strerror}; what stood there before is unchanged") from None
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
