"""The rotated files beside a record file: ``run.000001.jsonl``, ``run.000002.jsonl`` ...

They are numbered and not dated, because dates of a clock that boots in 1970 sort nothing.
"""

from __future__ import annotations

import re
import time
from pathlib import Path

from edge_runtime.sinks.files.tail import RECORD_START


class RotatedFiles:
    """The older files of ``path``. ``bytes`` is their size, as last counted."""

    def __init__(self, path: Path) -> None:
        self.bytes = 0
        self._path = path
        # Eight digits would be a date: a file of that name is somebody's copy.
        number = r"\.(\d{6}|[1-9]\d{6})"
        self._shape = re.compile(re.escape(path.stem) + number + re.escape(path.suffix))
        self._rotated_s: dict[str, float] = {}  # by name: when this run rotated it

    def count(self) -> None:
        """Look at the disk again: somebody else may have tidied up."""
        self.bytes = sum(_size_of(path) for path in self._ours())

    def next_path(self) -> Path:
        """The name for the next file. Raises PermissionError where the folder may not be listed."""
        last = max(self._numbered().values(), default=0)
        return self._path.with_name(f"{self._path.stem}.{last + 1:06d}{self._path.suffix}")

    def add(self, path: Path) -> None:
        """Note when a file was rotated."""
        self._rotated_s[path.name] = time.monotonic()

    def oldest(self) -> tuple[float, float] | None:
        """When the oldest file was written; see `room.Keeper`."""
        for path in self._ours():
            try:
                return self._rotated_s.get(path.name, 0.0), path.stat().st_mtime
            except OSError:  # somebody else may have tidied up
                continue
        return None

    def delete_oldest(self) -> bool:
        """Delete the oldest file that can be deleted; False where there is none."""
        for path in self._ours():
            size = _size_of(path)
            try:
                path.unlink()
            except OSError:
                continue
            self.bytes -= size
            self._rotated_s.pop(path.name, None)
            return True
        return False

    def _ours(self) -> list[Path]:
        """Oldest first. A file with such a name that we did not write is not ours to delete."""
        try:
            numbered = self._numbered()
        except PermissionError:  # one may write into a folder that one may not list
            return []
        ours = [path for path in numbered if _begins_with_a_record(path)]
        return sorted(ours, key=lambda path: numbered[path])

    def _numbered(self) -> dict[Path, int]:
        """Every file with the name of a rotated one, and its number."""
        numbers = {}
        for path in self._path.parent.iterdir():
            match = self._shape.fullmatch(path.name)
            if match:
                numbers[path] = int(match[1])
        return numbers


def _begins_with_a_record(path: Path) -> bool:
    try:
        with path.open("rb") as stream:
            return stream.read(len(RECORD_START)) == RECORD_START
    except OSError:
        return False


def _size_of(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0
