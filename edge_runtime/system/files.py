"""Reading files that may be anything; writing so that the old one stays whole and only one program writes."""

from __future__ import annotations

import errno
import fcntl
import os
import select
import signal
import stat
from pathlib import Path

from edge_runtime.errors import DataError

FULL = {errno.ENOSPC, errno.EDQUOT}  # the errors that room on the disk would heal
PIPE_S = 2.0  # what a shell's <(command) gets for each piece of its output

# A new file, never one that is there, and never through a link: the folder may be another user's.
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_mine: set[tuple[int, int]] = set()  # device and inode of what this process has claimed


class TakenError(OSError):
    """Another process writes there; ``strerror`` says which."""


def read_capped(path: Path, most: int) -> bytes:
    """The bytes of a file, or of a pipe that somebody writes to; ``most`` + 1 of them where there are more.

    Raises OSError, also for what has no end or never begins: a device, a folder, a pipe without a writer.
    """
    fd = os.open(
        path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC
    )  # a pipe without a writer blocks even the opening
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
    is right. Without ``durable`` nothing is forced to disk: for what is soon written again. A pipe or a device is
    written to as it stands: as root, a rename would put a file in the place of /dev/null.
    """
    if _stands(path):
        _write_through(path, data)
        return
    partial = path.with_name(f".{path.name}.{os.getpid()}-{os.urandom(4).hex()}.part")
    made = False
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        first_mode = at_most if mode is None else 0o600
        with os.fdopen(os.open(partial, _NEW, first_mode), "wb") as stream:
            made = True
            if mode is not None:
                os.fchmod(stream.fileno(), mode)
            stream.write(data)
            stream.flush()
            if durable:
                os.fsync(stream.fileno())
        partial.replace(path)
    except OSError as error:
        _forget(partial, made)
        raise DataError(
            f"{path}: cannot write: {error.strerror}", "what stood there before is unchanged"
        ) from None
    except BaseException:
        _forget(partial, made)
        raise
    if durable:
        try:
            sync_folder(path.parent)
        except OSError as error:
            raise DataError(
                f"{path}: written, but the disk does not confirm it: {error.strerror}"
            ) from None


def _stands(path: Path) -> bool:
    """Whether there is something that is no file. Of links, only those of the system itself are followed."""
    if path.is_symlink():
        return path.is_relative_to("/dev") or path.is_relative_to("/proc")
    return is_special(path)


def _write_through(path: Path, data: bytes) -> None:
    try:
        fd = os.open(
            path, os.O_WRONLY | os.O_TRUNC | os.O_NONBLOCK | os.O_CLOEXEC
        )  # a pipe may have no reader
        os.set_blocking(fd, True)
        with os.fdopen(fd, "wb") as stream:
            stream.write(data)
    except OSError as error:
        raise DataError(f"{path}: cannot write: {error.strerror}") from None


def _forget(partial: Path, made: bool) -> None:
    try:
        if made:
            partial.unlink(missing_ok=True)
    except OSError:
        pass


def sync_folder(folder: Path) -> None:
    """Force the names in a folder to the disk: a file that was synced can still be without its name."""
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


def claim(fd: int) -> None:
    """Make an open file or folder this process's alone, until ``let_go(fd)`` or the end of the process.

    Raises TakenError when another process has it, and BlockingIOError while an older sink of our own does, as during a
    reload. On a file system without locks it does nothing, nor where the other process was killed and cannot end.
    """
    facts = os.fstat(fd)
    inode = (facts.st_dev, facts.st_ino)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        if inode in _mine:
            raise
        pid = _holder(facts.st_ino)
        if not _was_killed(pid):
            raise TakenError(errno.EBUSY, f"{_described(pid)} writes there already") from None
        return
    except OSError:
        return
    _mine.add(inode)


def let_go(fd: int) -> None:
    """Close what was opened, claimed or not."""
    facts = os.fstat(fd)
    _mine.discard((facts.st_dev, facts.st_ino))
    os.close(fd)


def _holder(inode: int) -> int | None:
    """Who holds the lock, as the kernel lists it; None for somebody in another container.

    Not by the device: of a layered file system, the kernel lists another one than stat tells.
    """
    try:
        locks = [line.split() for line in Path("/proc/locks").read_text().splitlines()]
        return next(
            int(fields[4])
            for fields in locks
            if fields[1] == "FLOCK" and fields[5].endswith(f":{inode}")
        )
    except (OSError, ValueError, StopIteration, IndexError):
        return None


def _was_killed(pid: int | None) -> bool:
    """Whether a process only waits for a driver or a disk to let it end. It keeps its lock, but writes no more.

    Without this a service whose camera driver hangs could never be started again.
    """
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
        status = dict(line.split(":", 1) for line in lines)
        pending = int(status["SigPnd"], 16) | int(status["ShdPnd"], 16)
    except (OSError, ValueError, KeyError):
        return False
    return status["State"].split()[0] == "Z" or bool(pending & 1 << (signal.SIGKILL - 1))


def _described(pid: int | None) -> str:
    try:
        return f"process {pid} ({Path(f'/proc/{pid}/comm').read_text().strip()})"
    except OSError:
        return "another process" if pid is None else f"process {pid}"
