"""A capture while it is being written: nothing of it is visible before it is complete."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from edge_runtime.sinks.triggers.capture import Capture
from edge_runtime.system.files import sync_folder

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

_T = TypeVar("_T")


class Allocator(Protocol):
    """What a draft needs of its spool."""

    def reserve(self, size: int) -> bool:
        """Make room under the cap for ``size`` bytes; False when there can be none."""

    def release(self, size: int) -> None:
        """Give back what was reserved."""

    def add(self, capture: Capture) -> None:
        """Count a finished capture."""

    def with_room(self, call: Callable[[], _T]) -> _T:
        """The result of ``call``; while the disk is full, make room on it and call again."""


class DraftStream(io.FileIO):
    """A new file for the service's own user only, whatever the umask and the folder allow.

    ``write`` stores all of its bytes. On a full disk older captures and records make room for them.
    """

    def __init__(self, path: Path, spool: Allocator) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        super().__init__(os.open(path, flags, 0o600), "wb")
        self._spool = spool

    def write(self, data: ReadableBuffer) -> int:
        whole = memoryview(data)
        rest = whole
        while rest:
            stored = self._spool.with_room(partial(super().write, rest))
            rest = rest[stored:]
        return len(whole)


@dataclass(slots=True)
class Draft:
    """A capture being written to ``stream``. Every piece of it must be reserved first.

    Finish it or abandon it. ``path`` is where the media file will be, ``partial`` where it is now.
    """

    spool: Allocator
    path: Path
    partial: Path
    stream: DraftStream
    reserved: int = 0

    def reserve(self, size: int) -> bool:
        """Make room for ``size`` bytes more. False: there is none, so do not write them."""
        if not self.spool.reserve(size):
            return False
        self.reserved += size
        return True

    def finish(self, sidecar: Callable[[str, int], dict[str, Any]]) -> Capture | None:
        """Make the capture visible, sidecar last; ``sidecar`` gets the media file's name and size.

        Returns None, and leaves nothing behind, when the sidecar has no room under the cap. Raises
        OSError, and leaves nothing behind either.
        """
        with_room = self.spool.with_room
        try:
            with_room(lambda: os.fsync(self.stream.fileno()))
            size = self.stream.seek(0, os.SEEK_END)
            fields = sidecar(self.path.name, size)
            text = json.dumps(fields, allow_nan=False, ensure_ascii=False).encode() + b"\n"
            if not self.reserve(len(text)):
                self.abandon()
                return None

            self.stream.close()
            with with_room(lambda: DraftStream(self._sidecar_partial, self.spool)) as stream:
                stream.write(text)
                with_room(lambda: os.fsync(stream.fileno()))

            # In this order: a sidecar that has its name must have its whole media file beside it,
            # also after a power cut.
            with_room(lambda: self.partial.replace(self.path))
            with_room(lambda: self._sidecar_partial.replace(self._sidecar))
            with_room(lambda: sync_folder(self.path.parent))
        except OSError:
            self.abandon()
            raise

        self._release()
        capture = Capture(self.path, self._sidecar)
        self.spool.add(capture)
        return capture

    def abandon(self) -> None:
        """Leave nothing behind."""
        self._release()
        try:
            self.stream.close()
        except OSError:  # a full disk may refuse what was buffered
            pass
        for path in (self.partial, self._sidecar_partial, self._sidecar, self.path):
            path.unlink(missing_ok=True)

    @property
    def _sidecar(self) -> Path:
        return self.path.with_suffix(".json")

    @property
    def _sidecar_partial(self) -> Path:
        return self.path.with_name(f".{self._sidecar.name}.part")

    def _release(self) -> None:
        self.spool.release(self.reserved)
        self.reserved = 0
