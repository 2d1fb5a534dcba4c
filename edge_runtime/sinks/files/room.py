"""Room on a full disk: what was written first goes first, whichever sink wrote it.

Records and captures often share one small disk. If each sink gave up only its own files, the one that writes more would
take all the room that the other one gives. What was seen last is worth most, so the oldest of both makes room.
"""

from __future__ import annotations

import logging
import threading
from pathlib import Path
from typing import Protocol

log = logging.getLogger("edge_label.sinks")

lock = (
    threading.RLock()
)  # held while a keeper lists, counts or deletes its files; never while something is written
_keepers: list[Keeper] = []
_told = False


class Keeper(Protocol):
    """Somebody with files that can be given up for newer ones."""

    @property
    def folder(self) -> Path:
        """Where the files are."""

    def oldest(self) -> tuple[float, float] | None:
        """When the oldest file was written: monotonic seconds (0 for an earlier run), then the wall clock's.

        None where there is nothing to give up.
        """

    def give_up_oldest(self) -> bool:
        """Delete the oldest file; False when it cannot be deleted."""


def join(keeper: Keeper) -> None:
    """Have ``keeper`` asked for room from now on."""
    with lock:
        if keeper not in _keepers:
            _keepers.append(keeper)


def leave(keeper: Keeper) -> None:
    """Do not ask it any more."""
    with lock:
        if keeper in _keepers:
            _keepers.remove(keeper)


def make_room(folder: Path) -> bool:
    """Give up the oldest file on the file system of ``folder``; False when nobody has one there."""
    with lock:
        offers = [(when, keeper) for keeper in _on(folder) if (when := keeper.oldest()) is not None]
        offers.sort(key=lambda offer: offer[0])
        made = any(keeper.give_up_oldest() for _, keeper in offers)  # the first one that can
        if made:
            _tell(folder)
        return made


def _on(folder: Path) -> list[Keeper]:
    device = _device(folder)
    return [keeper for keeper in _keepers if _device(keeper.folder) == device]


def _device(folder: Path) -> int | None:
    try:
        return folder.stat().st_dev
    except OSError:
        return None


def _tell(folder: Path) -> None:
    global _told
    if not _told:  # once a process: a full disk stays full for long
        _told = True
        log.warning(
            "%s: the disk is full; from now on the oldest records and captures make room for new ones",
            folder,
        )
