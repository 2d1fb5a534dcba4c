"""Room on a full disk: what was written first goes first, whichever sink wrote it.

Records and captures often share one small disk. If each sink gave up only its own files, the one
that writes more would take all the room that the other one gives. What was seen last is worth most,
so the oldest file of both makes room.
"""

from __future__ import annotations

import logging
import threading
from pathlib import Path
from typing import Protocol

log = logging.getLogger("edge_label.sinks")

# Held while a keeper lists, counts or deletes its files; never while something is written.
lock = threading.RLock()
_keepers: list[Keeper] = []
_logged = False


class Keeper(Protocol):
    """A sink with files that can be given up for newer ones."""

    @property
    def folder(self) -> Path:
        """Where the files are."""

    def oldest(self) -> tuple[float, float] | None:
        """When the oldest file was written: (monotonic seconds, wall-clock seconds).

        The first is 0 for a file of an earlier run. None where there is nothing to give up.
        """

    def give_up_oldest(self) -> bool:
        """Delete the oldest file; False when it cannot be deleted."""


def join(keeper: Keeper) -> None:
    """Ask ``keeper`` for room from now on."""
    with lock:
        if keeper not in _keepers:
            _keepers.append(keeper)


def leave(keeper: Keeper) -> None:
    """Do not ask it any more."""
    with lock:
        if keeper in _keepers:
            _keepers.remove(keeper)


def make_room(folder: Path) -> bool:
    """Give up the oldest file on the file system of ``folder``; False when there is none."""
    with lock:
        device = _device(folder)
        offers = []
        for keeper in _keepers:
            written = keeper.oldest() if _device(keeper.folder) == device else None
            if written is not None:
                offers.append((written, keeper))

        offers.sort(key=lambda offer: offer[0])
        # The first one that can: a file may be where nobody may delete it.
        has_room = any(keeper.give_up_oldest() for _, keeper in offers)
        if has_room:
            _log_once(folder)
        return has_room


def _device(folder: Path) -> int | None:
    try:
        return folder.stat().st_dev
    except OSError:
        return None


def _log_once(folder: Path) -> None:
    """Once a process: a full disk stays full for long."""
    global _logged
    if not _logged:
        _logged = True
        log.warning(
            "%s: the disk is full; from now on the oldest records and captures make room for "
            "new ones",
            folder,
        )
