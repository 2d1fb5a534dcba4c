"""A capture on the disk: a media file and its JSON sidecar, and how to tell that both are whole."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from edge_runtime.errors import DataError
from edge_runtime.sinks.triggers.avi import is_whole_avi
from edge_runtime.system.jpeg_bytes import jpeg_size


@dataclass(frozen=True, slots=True)
class Capture:
    """A finished capture."""

    media: Path
    sidecar: Path

    def is_whole(self) -> bool:
        """Whether both files are complete, and the sidecar describes this media file."""
        if not (is_whole(self.sidecar) and is_whole(self.media)):
            return False
        try:
            fields = json.loads(self.sidecar.read_bytes())
            described = (fields.get("file"), fields.get("bytes"))
            return described == (self.media.name, self.media.stat().st_size)
        except (OSError, ValueError):
            return False


def is_whole(path: Path) -> bool:
    """Whether a sidecar, clip or picture is complete, as far as its own bytes tell."""
    try:
        if path.suffix == ".json":
            return isinstance(json.loads(path.read_bytes()), dict)
        if path.suffix == ".avi":
            return is_whole_avi(path)
        jpeg_size(path.read_bytes())
    except (OSError, ValueError, RecursionError, DataError):
        return False
    return True


@dataclass(frozen=True, slots=True)
class StoredFiles:
    """The files of one capture number, the sidecar first: it must also be deleted first.

    A spool may hold ten thousand of these, and the process must not grow with them. So the names
    are one string, a third of the size of two Paths.
    """

    folder: Path  # the same object for all
    names: str  # separated by slashes
    bytes: int
    written: tuple[float, float]  # see `room.Keeper.oldest`

    @classmethod
    def of(
        cls,
        folder: Path,
        paths: list[Path],
        written: tuple[float, float] | None,
    ) -> StoredFiles:
        """Those at ``paths``, sidecar first. ``written`` is None for files of an earlier run."""
        stats = [path.stat() for path in paths if path.exists()]
        if written is None:
            written = (0.0, min((stat.st_mtime for stat in stats), default=0.0))
        names = "/".join(path.name for path in paths)
        return cls(folder, names, sum(stat.st_size for stat in stats), written)

    @property
    def number(self) -> int:
        """Which capture this is, counted from the first one in this folder."""
        return int(self.names.split("-", 1)[0])

    @property
    def paths(self) -> tuple[Path, ...]:
        return tuple(self.folder / name for name in self.names.split("/"))

    @property
    def capture(self) -> Capture | None:
        """The capture, or None where these are not exactly a sidecar and its media file."""
        paths = self.paths
        if len(paths) != 2 or paths[0].stem != paths[1].stem:
            return None
        return Capture(media=paths[1], sidecar=paths[0])

    def damaged(self) -> tuple[Path, ...]:
        """The files to delete. A picture stays where only its sidecar is damaged."""
        capture = self.capture
        if capture and capture.is_whole():
            return ()
        broken = tuple(path for path in self.paths if not is_whole(path))
        if capture is None or broken == (capture.sidecar,):
            return broken
        return self.paths
