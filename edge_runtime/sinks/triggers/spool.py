"""A folder of captures under a hard byte cap: the oldest give way, and what is there is always whole.

A capture is a media file and its JSON sidecar, ``00000042-snowy-20260502T091307Z.jpg`` and ``.json``. The number
only grows, so the oldest is known even where the clock started in 1970. The media file reaches the disk first, then the
sidecar, then their names: a sidecar that is there has its whole media file beside it, also after a power cut.

Only files with such a name are ours, and only those are ever deleted.
"""

from __future__ import annotations

import errno
import io
import json
import logging
import os
import re
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from edge_runtime.errors import ConfigError, DataError
from edge_runtime.sinks.files import room
from edge_runtime.sinks.triggers.avi import is_whole_avi
from edge_runtime.system.files import FULL, TakenError, claim, let_go, sync_folder
from edge_runtime.system.jpeg_bytes import jpeg_size

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

log = logging.getLogger("edge_label.spool")

_T = TypeVar("_T")
_MAY_PASS = {errno.EROFS, errno.ENOSPC, errno.EDQUOT, errno.EIO}
_NAME = re.compile(r"(\d{8,})-[\w-]+-\d{8}T\d{6}Z\.(jpg|avi|json)", re.ASCII)
_PARTIAL = re.compile(r"\.\d{8,}-[\w-]+-\d{8}T\d{6}Z\.(jpg|avi|json)\.part", re.ASCII)
_LOOKED_AT = 32  # captures that must be whole, from the newest back: a power cut harms only what was written last


@dataclass(frozen=True, slots=True)
class Capture:
    """A finished capture: the media file and its sidecar."""

    media: Path
    sidecar: Path

    def is_whole(self) -> bool:
        """Whether the sidecar can be read, and the media file is complete and as long as the sidecar says."""
        if not (_is_whole(self.sidecar) and _is_whole(self.media)):
            return False
        try:
            described = json.loads(self.sidecar.read_bytes())
            promised = (described.get("file"), described.get("bytes"))
            return promised == (self.media.name, self.media.stat().st_size)
        except (OSError, ValueError):
            return False


def _is_whole(path: Path) -> bool:
    """Whether one file is complete, as far as it tells by itself."""
    try:
        if path.suffix == ".json":
            return isinstance(json.loads(path.read_bytes()), dict)
        if path.suffix == ".avi":
            return is_whole_avi(path)
        jpeg_size(path.read_bytes())
    except (OSError, ValueError, RecursionError, DataError):
        return False
    return True


class Spool:
    """Written by one thread. Raises ConfigError when the folder can never be made or written, or when another process
    has it; a disk that is full or read-only is no mistake of the configuration, and ``open`` is tried again.

    ``open`` comes before anything else; apart from the constructor because a reload makes the new spool while the
    old one may still be writing. ``close`` lets another one have the folder.
    """

    def __init__(self, folder: Path, max_bytes: int) -> None:
        self._folder = folder
        self._max_bytes = max_bytes
        self._held: deque[_Held] = deque()
        self._bytes = 0
        self._drafted = 0  # bytes of captures that are not finished
        self._next = 1
        self._claim: int | None = None
        self.deleted = 0
        try:
            self._claimed()
            probe = folder / f".{os.getpid()}-{os.urandom(4).hex()}.probe"
            probe.touch(exist_ok=False)
            probe.unlink()
        except TakenError as error:
            raise ConfigError(
                f"{folder}: {error.strerror}", "stop that, or give another triggers.spool"
            ) from None
        except (
            BlockingIOError
        ):  # the spool that a reload replaces: it is closed before this one is opened
            pass
        except OSError as error:
            if error.errno not in _MAY_PASS:
                self.close()
                raise ConfigError(
                    f"{folder}: cannot be the spool: {error.strerror}", "choose another folder"
                ) from None
            log.warning("%s: %s; captures are lost until that is over", folder, error.strerror)

    @property
    def folder(self) -> Path:
        """Where the captures are."""
        return self._folder

    def open(self) -> None:
        """Take away what a killed process or a power cut left unfinished, and count what is there. Raises OSError."""
        self._claimed()
        for path in self._folder.iterdir():
            if _PARTIAL.fullmatch(path.name):
                path.unlink(missing_ok=True)
        with room.lock:
            self._scan()
            self._next = self._held[-1].number + 1 if self._held else 1
            self._drop_damaged()
        room.join(self)

    def close(self) -> None:
        """Let go of the folder."""
        room.leave(self)
        if self._claim is not None:
            let_go(self._claim)
            self._claim = None

    @property
    def bytes(self) -> int:
        """Bytes of all captures, as last counted."""
        return self._bytes

    def captures(self, newest: int | None = None) -> list[Capture]:
        """The finished captures that are whole, or the ``newest`` of them, oldest first."""
        with room.lock:
            found = [held.capture for held in self._held if held.capture]
        return [capture for capture in (found[-newest:] if newest else found) if capture.is_whole()]

    def make_room(self, size: int) -> bool:
        """Delete the oldest captures until ``size`` bytes more fit, drafts counted; False if they never can."""
        with room.lock:
            if self._bytes + self._drafted + size <= self._max_bytes:
                return True
            if self._drafted + size > self._max_bytes:
                return False
            self._scan()  # somebody may have taken files away
            while self._held and self._bytes + self._drafted + size > self._max_bytes:
                if not self.deleted:
                    log.warning(
                        "%s is full: from now on the oldest captures are deleted", self._folder
                    )
                self._delete(self._held.popleft())
            return True

    def insist(self, call: Callable[[], _T]) -> _T:
        """The result of ``call``. As long as the disk is full, something older makes room and it is called again."""
        while True:
            try:
                return call()
            except OSError as error:
                if error.errno not in FULL or not room.make_room(self._folder):
                    raise

    def oldest(self) -> tuple[float, float] | None:
        """When the oldest capture was written; see room.py."""
        while self._held and not any(
            path.exists() for path in self._held[0].paths
        ):  # the hook took it away
            self._bytes -= self._held.popleft().bytes
        return self._held[0].written if self._held else None

    def give_up_oldest(self) -> bool:
        """Delete the oldest capture; False where there is none."""
        if not self._held:
            return False
        try:
            self._delete(self._held[0])
        except OSError:
            return False
        self._held.popleft()
        return True

    def start(self, name: str, suffix: str) -> Draft:
        """Begin a capture; nothing of it is visible before ``Draft.finish``. Raises OSError.

        ``name`` ends in the time, ``-20260502T091307Z``.
        """
        stem = f"{self._next:08d}-{name}"
        self._next += 1
        draft = self._folder / f".{stem}{suffix}.part"
        stream = self.insist(lambda: _Stream(draft, self))
        return Draft(self, self._folder / f"{stem}{suffix}", draft, stream)

    def _claimed(self) -> None:
        """Make the folder, and make it ours alone."""
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if self._claim is not None:
            return
        fd = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            claim(fd)
        except OSError:
            os.close(fd)
            raise
        self._claim = fd

    def _scan(self) -> None:
        written = {held.number: held.written for held in self._held}
        found: dict[int, list[Path]] = {}
        for path in sorted(self._folder.iterdir(), key=lambda path: path.suffix != ".json"):
            match = _NAME.fullmatch(path.name)
            if match:
                found.setdefault(int(match[1]), []).append(path)
        self._held = deque(
            _Held.of(self._folder, paths, written.get(number))
            for number, paths in sorted(found.items())
        )
        self._bytes = sum(held.bytes for held in self._held)

    def _drop_damaged(self) -> None:
        """Delete what a power cut has left of the newest captures. A file that is whole but alone stays."""
        newest = list(self._held)[-_LOOKED_AT:]
        damaged = [path for held in newest for path in held.damaged()]
        for path in damaged:
            path.unlink(missing_ok=True)
        if damaged:
            self._scan()
            names = ", ".join(path.name for path in damaged[:4])
            log.warning(
                "%s: deleted %d files that a power cut left damaged: %s",
                self._folder,
                len(damaged),
                names,
            )

    def _delete(self, held: _Held) -> None:
        for path in held.paths:
            path.unlink(missing_ok=True)
        self._bytes -= held.bytes
        self.deleted += 1

    def _added(self, capture: Capture) -> None:
        with room.lock:
            held = _Held.of(self._folder, [capture.sidecar, capture.media], (time.monotonic(), 0.0))
            self._held.append(held)
            self._bytes += held.bytes


class _Stream(io.FileIO):
    """A new file for the service's own user only, whatever the umask and the folder allow.

    A write stores all of its bytes, for which older captures and records make room on a full disk.
    """

    def __init__(self, path: Path, spool: Spool) -> None:
        super().__init__(
            os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "wb"
        )
        self._spool = spool

    def write(self, data: ReadableBuffer) -> int:
        whole = rest = memoryview(data)
        while rest:
            stored = self._spool.insist(partial(super().write, rest))
            rest = rest[stored:]
        return len(whole)


@dataclass(frozen=True, slots=True)
class _Held:
    """The files of one number, the sidecar first, so that it is also the first to be deleted.

    There may be ten thousand, and the process must not grow with them: names in one string are a third of two Paths.
    """

    folder: Path  # the same object for all
    names: str
    bytes: int
    written: tuple[float, float]  # monotonic seconds, 0 for an earlier run; and the wall clock's

    @classmethod
    def of(cls, folder: Path, paths: list[Path], written: tuple[float, float] | None) -> _Held:
        facts = [path.stat() for path in paths if path.exists()]
        before = (0.0, min((one.st_mtime for one in facts), default=0.0))
        names = "/".join(path.name for path in paths)
        return cls(folder, names, sum(one.st_size for one in facts), written or before)

    @property
    def number(self) -> int:
        """Which capture it is, counted from the first that was ever kept there."""
        return int(self.names.split("-", 1)[0])

    @property
    def paths(self) -> tuple[Path, ...]:
        """Its files."""
        return tuple(self.folder / name for name in self.names.split("/"))

    @property
    def capture(self) -> Capture | None:
        """None for a single file without the other, or too many."""
        paths = self.paths
        if len(paths) != 2 or paths[0].stem != paths[1].stem:
            return None
        return Capture(media=paths[1], sidecar=paths[0])

    def damaged(self) -> tuple[Path, ...]:
        """The files to be deleted. A picture stays where only its sidecar is damaged."""
        if self.capture and self.capture.is_whole():
            return ()
        broken = tuple(path for path in self.paths if not _is_whole(path))
        if self.capture is None or broken == (self.capture.sidecar,):
            return broken
        return self.paths


@dataclass(slots=True)
class Draft:
    """A capture being written to ``stream``, after ``reserve`` for every piece of it. Finish it or abandon it."""

    spool: Spool
    path: Path
    partial: Path
    stream: _Stream
    reserved: int = 0

    def reserve(self, size: int) -> bool:
        """Make room for ``size`` bytes more; False, and they must not be written, when the cap has none."""
        with room.lock:
            if not self.spool.make_room(size):
                return False
            self.reserved += size
            self.spool._drafted += size
        return True

    def finish(self, sidecar: Callable[[str, int], dict[str, Any]]) -> Capture | None:
        """Make the capture visible, sidecar last; ``sidecar`` gets media name and size. Raises OSError.

        None, and nothing left behind, when the sidecar does not fit under the cap.
        """
        insist = self.spool.insist
        beside = self.path.with_suffix(".json")
        draft = beside.with_name(f".{beside.name}.part")
        try:
            insist(lambda: os.fsync(self.stream.fileno()))
            size = self.stream.seek(0, os.SEEK_END)
            text = (
                json.dumps(
                    sidecar(self.path.name, size), allow_nan=False, ensure_ascii=False
                ).encode()
                + b"\n"
            )
            if not self.reserve(len(text)):
                self.abandon()
                return None
            self.stream.close()
            with insist(lambda: _Stream(draft, self.spool)) as stream:
                stream.write(text)
                insist(lambda: os.fsync(stream.fileno()))

            insist(lambda: self.partial.replace(self.path))
            insist(lambda: draft.replace(beside))
            insist(lambda: sync_folder(self.path.parent))
        except OSError:
            self.abandon()
            raise
        self._release()
        capture = Capture(self.path, beside)
        self.spool._added(capture)
        return capture

    def abandon(self) -> None:
        """Leave nothing behind."""
        self._release()
        try:
            self.stream.close()
        except OSError:  # a full disk may refuse what was buffered
            pass
        beside = self.path.with_suffix(".json")
        for path in (self.partial, beside.with_name(f".{beside.name}.part"), beside, self.path):
            path.unlink(missing_ok=True)

    def _release(self) -> None:
        with room.lock:
            self.spool._drafted -= self.reserved
            self.reserved = 0
