"""A folder of captures under a hard byte cap: the oldest give way, and what is there is always whole.

A capture is a media file and its JSON sidecar, ``00000042-snowy-20260502T091307Z.jpg`` and ``.json``. The number
only grows, so the oldest is known even where the clock started in 1970. The sidecar comes last: a sidecar that is
there has its whole media file beside it.
"""

from __future__ import annotations

import errno
import json
import logging
import os
import re
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from edge_runtime.errors import ConfigError

log = logging.getLogger("edge_label.spool")

_MAY_PASS = {errno.EROFS, errno.ENOSPC, errno.EDQUOT, errno.EIO}
_NAME = re.compile(r"(\d{8,})-[\w-]+\.(jpg|avi|json)", re.ASCII)
_PARTIAL = re.compile(r"\.\d{8,}-[\w-]+\.(jpg|avi|json)\.part", re.ASCII)


@dataclass(frozen=True, slots=True)
class Capture:
    """A finished capture: the media file and its sidecar."""

    media: Path
    sidecar: Path


class Spool:
    """Used by one thread. Raises ConfigError when the folder can never be made or written; a disk that is full or
    read-only is no mistake of the configuration, and ``open`` is tried again.

    ``open`` comes before anything else; apart from the constructor because a reload makes the new spool while the
    old one may still be writing.
    """

    def __init__(self, folder: Path, max_bytes: int) -> None:
        self._folder = folder
        self._max_bytes = max_bytes
        self._held: deque[_Held] = deque()
        self._bytes = 0
        self._drafted = 0  # bytes of captures that are not finished
        self._next = 1
        self.deleted = 0
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            probe = folder / f".{os.getpid()}.probe"
            probe.touch()
            probe.unlink()
        except OSError as error:
            if error.errno not in _MAY_PASS:
                raise ConfigError(f"{folder}: cannot be the spool: {error.strerror}; choose another folder") from None
            log.warning("%s: %s; captures are lost until that is over", folder, error.strerror)

    def open(self) -> None:
        """Take away what a killed process left unfinished, and count what is there. Raises OSError."""
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for path in self._folder.iterdir():
            if _PARTIAL.fullmatch(path.name):
                path.unlink(missing_ok=True)
        self._scan()
        self._next = self._held[-1].number + 1 if self._held else 1

    @property
    def bytes(self) -> int:
        """Bytes of all captures, as last counted."""
        return self._bytes

    def captures(self) -> list[Capture]:
        """Every finished capture, oldest first."""
        return [Capture(held.paths[1], held.paths[0]) for held in self._held if len(held.paths) == 2]

    def make_room(self, size: int) -> bool:
        """Delete the oldest captures until ``size`` bytes more fit, drafts counted; False if they never can."""
        if self._bytes + self._drafted + size <= self._max_bytes:
            return True
        if self._drafted + size > self._max_bytes:
            return False
        self._scan()  # somebody may have taken files away
        while self._held and self._bytes + self._drafted + size > self._max_bytes:
            oldest = self._held.popleft()
            for path in oldest.paths:
                path.unlink(missing_ok=True)
            self._bytes -= oldest.bytes
            if not self.deleted:
                log.warning("%s is full: from now on the oldest captures are deleted", self._folder)
            self.deleted += 1
        return True

    def start(self, name: str, suffix: str) -> Draft:
        """Begin a capture; nothing of it is visible before ``Draft.finish``. Raises OSError."""
        stem = f"{self._next:08d}-{name}"
        self._next += 1
        partial = self._folder / f".{stem}{suffix}.part"
        return Draft(self, self._folder / f"{stem}{suffix}", partial, _open_private(partial))

    def _scan(self) -> None:
        found: dict[int, list[Path]] = {}
        for path in sorted(self._folder.iterdir(), key=lambda path: path.suffix != ".json"):
            match = _NAME.fullmatch(path.name)
            if match:
                found.setdefault(int(match[1]), []).append(path)
        self._held = deque(_Held.of(number, tuple(paths)) for number, paths in sorted(found.items()))
        self._bytes = sum(held.bytes for held in self._held)

    def _added(self, capture: Capture) -> None:
        held = _Held.of(int(capture.media.name.split("-", 1)[0]), (capture.sidecar, capture.media))
        self._held.append(held)
        self._bytes += held.bytes


def _open_private(path: Path) -> BinaryIO:
    """A new file for the service's own user only, whatever the umask and the folder allow."""
    return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "wb")


@dataclass(frozen=True, slots=True)
class _Held:
    """The files of one number, the sidecar first, so that it is also the first to be deleted."""

    number: int
    paths: tuple[Path, ...]
    bytes: int

    @classmethod
    def of(cls, number: int, paths: tuple[Path, ...]) -> _Held:
        return cls(number, paths, sum(path.stat().st_size for path in paths if path.exists()))


@dataclass(slots=True)
class Draft:
    """A capture being written to ``stream``, after ``reserve`` for every piece of it. Finish it or abandon it."""

    spool: Spool
    path: Path
    partial: Path
    stream: BinaryIO
    reserved: int = 0

    def reserve(self, size: int) -> bool:
        """Make room for ``size`` bytes more; False, and they must not be written, when the cap has none."""
        if not self.spool.make_room(size):
            return False
        self.reserved += size
        self.spool._drafted += size
        return True

    def finish(self, sidecar: Callable[[str, int], dict[str, Any]]) -> Capture | None:
        """Make the capture visible, sidecar last; ``sidecar`` gets media name and size. Raises OSError.

        None, and nothing left behind, when the sidecar does not fit under the cap.
        """
        try:
            self.stream.flush()
            os.fsync(self.stream.fileno())
            size = self.stream.seek(0, os.SEEK_END)
            text = json.dumps(sidecar(self.path.name, size), allow_nan=False, ensure_ascii=False).encode() + b"\n"
            if not self.reserve(len(text)):
                self.abandon()
                return None
            self.stream.close()
            self.partial.replace(self.path)
            beside = self.path.with_suffix(".json")
            draft = beside.with_name(f".{beside.name}.part")
            with _open_private(draft) as stream:
                stream.write(text)
            draft.replace(beside)
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
        for path in (self.partial, self.path, self.path.with_suffix(".json").with_name(f".{self.path.stem}.json.part")):
            path.unlink(missing_ok=True)

    def _release(self) -> None:
        self.spool._drafted -= self.reserved
        self.reserved = 0
