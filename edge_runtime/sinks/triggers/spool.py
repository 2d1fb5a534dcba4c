"""A folder of captures under a hard byte cap. The oldest are deleted, the others are whole.

A capture is a media file and its JSON sidecar, ``00000042-snowy-20260502T091307Z.jpg`` and
``.json``. The number only grows, so the oldest is known even where the clock started in 1970. The
media file reaches the disk first, then the sidecar, then their names: a sidecar that is there has
its whole media file beside it, also after a power cut.

Only files with such a name are ours, and only those are ever deleted.
"""

from __future__ import annotations

import errno
import logging
import os
import re
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from edge_runtime.errors import ConfigError
from edge_runtime.sinks.files import room
from edge_runtime.sinks.triggers.capture import Capture, StoredFiles
from edge_runtime.sinks.triggers.draft import Draft, DraftStream
from edge_runtime.system.claims import TakenError, claim_folder, let_go
from edge_runtime.system.files import FULL

log = logging.getLogger("edge_label.spool")

_T = TypeVar("_T")
_MAY_PASS = {errno.EROFS, errno.ENOSPC, errno.EDQUOT, errno.EIO}
_NAME = re.compile(r"(\d{8,})-[\w-]+-\d{8}T\d{6}Z\.(jpg|avi|json)", re.ASCII)
_PARTIAL = re.compile(r"\.\d{8,}-[\w-]+-\d{8}T\d{6}Z\.(jpg|avi|json)\.part", re.ASCII)
# How many captures ``open`` checks, from the newest back. A power cut harms only what was written
# last.
_CHECKED = 32


class Spool:
    """Written by one thread.

    ``open`` comes before anything else. It is apart from the constructor, because a reload makes
    the new spool while the old one may still be writing. ``close`` lets another process have the
    folder.

    Raises ConfigError when the folder can never be made or written, or when another process has it.
    A disk that is full or read-only is not an error of the configuration: ``open`` may be tried
    again.
    """

    def __init__(self, folder: Path, max_bytes: int) -> None:
        self._folder = folder
        self._max_bytes = max_bytes
        self._stored: deque[StoredFiles] = deque()  # oldest first
        self._bytes = 0
        self._drafted = 0  # bytes reserved for captures that are not finished
        self._next = 1
        self._claim: int | None = None
        self.deleted = 0
        try:
            self._take_folder()
            self._try_to_write()
        except TakenError as error:
            what = f"{folder}: {error.strerror}"
            raise ConfigError(what, "stop that, or give another triggers.spool") from error
        except BlockingIOError:
            pass  # by the spool that a reload replaces: it is closed before this one is opened
        except OSError as error:
            if error.errno not in _MAY_PASS:
                self.close()
                what = f"{folder}: cannot be the spool: {error.strerror}"
                raise ConfigError(what, "choose another folder") from error
            log.warning("%s: %s; captures are lost until that is over", folder, error.strerror)

    @property
    def folder(self) -> Path:
        """Where the captures are."""
        return self._folder

    @property
    def bytes(self) -> int:
        """Bytes of all captures, as last counted."""
        return self._bytes

    def open(self) -> None:
        """Delete what a kill or a power cut left unfinished, and count the rest. Raises OSError."""
        self._take_folder()
        for path in self._folder.iterdir():
            if _PARTIAL.fullmatch(path.name):
                path.unlink(missing_ok=True)

        with room.lock:
            self._scan()
            self._next = self._stored[-1].number + 1 if self._stored else 1
            self._delete_damaged()
        room.join(self)

    def close(self) -> None:
        """Let go of the folder."""
        room.leave(self)
        if self._claim is not None:
            let_go(self._claim)
            self._claim = None

    def captures(self, newest: int | None = None) -> list[Capture]:
        """The whole captures among all, or among the ``newest``, oldest first."""
        with room.lock:
            captures = [files.capture for files in self._stored if files.capture]
        if newest:
            captures = captures[-newest:]
        return [capture for capture in captures if capture.is_whole()]

    def start(self, name: str, suffix: str) -> Draft:
        """Begin a capture; nothing of it is visible before ``Draft.finish``. Raises OSError.

        ``name`` ends in the time, ``-20260502T091307Z``.
        """
        stem = f"{self._next:08d}-{name}"
        self._next += 1
        partial = self._folder / f".{stem}{suffix}.part"
        stream = self.with_room(lambda: DraftStream(partial, self))
        return Draft(self, self._folder / f"{stem}{suffix}", partial, stream)

    def reserve(self, size: int) -> bool:
        """Delete old captures until a draft may grow by ``size`` bytes; False if it cannot."""
        with room.lock:
            if self._drafted + size > self._max_bytes:
                return False
            if self._over_cap(size):
                self._scan()  # somebody may have taken files away
            while self._stored and self._over_cap(size):
                if not self.deleted:
                    log.warning(
                        "%s is full: from now on the oldest captures are deleted", self._folder
                    )
                self._delete(self._stored.popleft())
            self._drafted += size
        return True

    def release(self, size: int) -> None:
        """Give back what a draft had reserved."""
        with room.lock:
            self._drafted -= size

    def add(self, capture: Capture) -> None:
        """Count a finished capture."""
        paths = [capture.sidecar, capture.media]
        with room.lock:
            files = StoredFiles.of(self._folder, paths, (time.monotonic(), 0.0))
            self._stored.append(files)
            self._bytes += files.bytes

    def with_room(self, call: Callable[[], _T]) -> _T:
        """The result of ``call``; while the disk is full, older files make room for a new try."""
        while True:
            try:
                return call()
            except OSError as error:
                if error.errno not in FULL or not room.make_room(self._folder):
                    raise

    def oldest(self) -> tuple[float, float] | None:
        """When the oldest capture was written; see `room.Keeper`."""
        # The hook may have deleted some.
        while self._stored and not any(path.exists() for path in self._stored[0].paths):
            self._bytes -= self._stored.popleft().bytes
        return self._stored[0].written if self._stored else None

    def give_up_oldest(self) -> bool:
        """Delete the oldest capture; False where there is none, or it cannot be deleted."""
        if not self._stored:
            return False
        try:
            self._delete(self._stored[0])
        except OSError:
            return False
        self._stored.popleft()
        return True

    def _take_folder(self) -> None:
        """Make the folder, and claim it for this process."""
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if self._claim is None:
            self._claim = claim_folder(self._folder)

    def _try_to_write(self) -> None:
        probe = self._folder / f".{os.getpid()}-{os.urandom(4).hex()}.probe"
        probe.touch(exist_ok=False)
        probe.unlink()

    def _over_cap(self, size: int) -> bool:
        return self._bytes + self._drafted + size > self._max_bytes

    def _scan(self) -> None:
        written = {files.number: files.written for files in self._stored}
        paths_by_number: dict[int, list[Path]] = {}
        sidecars_first = sorted(self._folder.iterdir(), key=lambda path: path.suffix != ".json")
        for path in sidecars_first:
            match = _NAME.fullmatch(path.name)
            if match:
                paths_by_number.setdefault(int(match[1]), []).append(path)

        self._stored = deque(
            StoredFiles.of(self._folder, paths, written.get(number))
            for number, paths in sorted(paths_by_number.items())
        )
        self._bytes = sum(files.bytes for files in self._stored)

    def _delete_damaged(self) -> None:
        """Delete what a power cut damaged. A whole file stays, even without the other one."""
        newest = list(self._stored)[-_CHECKED:]
        damaged = [path for files in newest for path in files.damaged()]
        if not damaged:
            return
        for path in damaged:
            path.unlink(missing_ok=True)
        self._scan()

        names = ", ".join(path.name for path in damaged[:4])
        log.warning(
            "%s: deleted %d files that a power cut left damaged: %s",
            self._folder,
            len(damaged),
            names,
        )

    def _delete(self, files: StoredFiles) -> None:
        for path in files.paths:
            path.unlink(missing_ok=True)
        self._bytes -= files.bytes
        self.deleted += 1
