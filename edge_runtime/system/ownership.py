"""Who can change a path? Root must not work where others can, nor believe a file they can write."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

from edge_runtime.errors import ConfigError

_MAX_LINKS = 40  # as the kernel counts them
_TRUST = "root trusts only what nobody else can change"


def path_that_only_root_can_change(path: Path) -> Path:
    """``path`` with every link followed.

    For root, each step must belong to root and be closed to other writers. The way is checked from
    the top down: once a folder has passed, only root can change what is in it, so nothing can be
    exchanged behind the check. What does not exist yet passes, because root will make it in a
    folder that has passed. Raises ConfigError.

    Other users work with their own rights and can lose nothing: they get any path.
    """
    if os.geteuid() != 0:
        return path.resolve()

    here = Path("/")
    _refuse_other_writers(here, here.lstat())
    parts_left = list(reversed(path.absolute().parts[1:]))  # the next one is the last
    links = 0
    while parts_left:
        part = parts_left.pop()
        if part == "..":
            here = here.parent
            continue

        place = here / part
        try:
            facts = place.lstat()
        except FileNotFoundError:
            return place.joinpath(*reversed(parts_left))
        _refuse_other_writers(place, facts)
        if not stat.S_ISLNK(facts.st_mode):
            here = place
            continue

        links += 1
        if links > _MAX_LINKS:
            raise ConfigError(f"{path}: {os.strerror(errno.ELOOP)}", "name the folder itself")
        target = place.readlink()
        if target.is_absolute():
            here = Path("/")
            parts_left += reversed(target.parts[1:])
        else:
            parts_left += reversed(target.parts)
    return here


def no_planted_link(path: Path) -> int:
    """The flag with which root opens a file where another user may have planted a link.

    0 for everybody else, and for root in a folder of root's own, where a link is root's.
    """
    if os.geteuid() != 0:
        return 0
    try:
        folder = path.parent.stat()
    except OSError:  # opening the file reports it better
        return 0
    others = folder.st_uid != 0 or folder.st_mode & (stat.S_IWOTH | stat.S_IWGRP)
    return os.O_NOFOLLOW if others else 0


def _refuse_other_writers(place: Path, facts: os.stat_result) -> None:
    if facts.st_uid != 0:
        raise ConfigError(f"{place}: belongs to user {facts.st_uid}, and {_TRUST}")
    if stat.S_ISLNK(facts.st_mode):
        return  # a link has no mode of its own

    writers = stat.S_IWOTH if facts.st_gid == 0 else stat.S_IWOTH | stat.S_IWGRP
    # In a sticky folder such as /tmp others can add names, but not take root's away.
    sticky = stat.S_ISDIR(facts.st_mode) and facts.st_mode & stat.S_ISVTX
    if facts.st_mode & writers and not sticky:
        mode = stat.S_IMODE(facts.st_mode)
        raise ConfigError(f"{place}: mode {mode:o} lets others write, and {_TRUST}")
