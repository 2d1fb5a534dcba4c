"""Pictures that arrive in a folder, each once and only when it is complete.

The folder is looked at again and again. The kernel could tell what changes (inotify), but not on a
network drive, and not what was missed.
"""

from __future__ import annotations

import logging
import os
import time
from pathlib import Path

from edge_runtime.camera.folder import pictures_now
from edge_runtime.errors import printable

log = logging.getLogger("edge_label.camera")

LOOK_S = 1.0  # between two looks
# A large folder takes long to look at. It gets this share of a core, so it is looked at less often.
_SHARE = 0.05

_Stamp = tuple[int, int, int]  # inode, size, time of the last change in nanoseconds


class Arrivals:
    """New pictures below ``root``, by `look`; `interval_s` says when to look again.

    A picture is complete when two looks in a row find it the same. Its writer may pause for longer
    than that, so one that could not be read is given again after it has changed.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.interval_s = LOOK_S
        self._stamps: dict[Path, _Stamp] = {}  # of pictures that are not taken yet
        self._taken: dict[Path, _Stamp | None] = {}  # with a stamp: given, and not readable
        self._is_gone = False

    def look(self) -> list[Path]:
        """The pictures that are complete since the last look, sorted by name."""
        start = time.monotonic()
        present = self._present()
        if present is None:
            return []

        # A name that is gone may come back with another picture. It also must not cost memory.
        self._taken = {path: self._taken[path] for path in present if path in self._taken}
        stamps = {path: _stamp(path) for path in present if self._is_wanted(path)}
        complete = [
            path
            for path, stamp in stamps.items()
            if stamp is not None and self._stamps.get(path) == stamp != self._taken.get(path)
        ]
        self._stamps = {path: stamp for path, stamp in stamps.items() if stamp is not None}
        self.interval_s = max(LOOK_S, (time.monotonic() - start) / _SHARE)
        return complete

    def took(self, path: Path, *, readable: bool) -> None:
        """The picture is dealt with; one that was not ``readable`` may still be growing."""
        stamp = self._stamps.pop(path, None)
        self._taken[path] = None if readable else stamp

    def _is_wanted(self, path: Path) -> bool:
        return path not in self._taken or self._taken[path] is not None

    def _present(self) -> list[Path] | None:
        """What is there now, sorted; None, logged once, while the folder itself is not."""
        is_gone = not os.access(self.root, os.R_OK | os.X_OK)
        if is_gone != self._is_gone:
            self._is_gone = is_gone
            text = "is gone, or this user may not read it; waiting" if is_gone else "is there again"
            log.warning("%s: %s", printable(str(self.root)), text)
        return None if is_gone else pictures_now(self.root)


def _stamp(path: Path) -> _Stamp | None:
    """Differs after every change of a file; None where it has just gone."""
    try:
        facts = path.stat()
    except OSError:
        return None
    return facts.st_ino, facts.st_size, facts.st_mtime_ns
