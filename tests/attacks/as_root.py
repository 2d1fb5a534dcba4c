"""Root played against the service's user, and what a folder looked like before.

What only root can play is skipped for an ordinary developer, and says so.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

NOBODY = 65534
root_only = pytest.mark.skipif(
    os.geteuid() != 0, reason="plays root against another user: needs root"
)


def as_nobody(attack: Callable[[], object]) -> str:
    """Do it in a process of the service's user; returns the name of the exception that ended it."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.setgroups([])
            os.setresgid(NOBODY, NOBODY, NOBODY)
            os.setresuid(NOBODY, NOBODY, NOBODY)
            attack()
        except BaseException as error:
            os.write(write, type(error).__name__.encode())
        finally:
            os._exit(0)
    os.close(write)
    os.waitpid(child, 0)
    with os.fdopen(read) as stream:
        return stream.read()


def facts(root: Path) -> dict[str, tuple[int, int, int]]:
    """Owner, mode and inode of everything below."""
    found = {}
    for path in sorted(root.rglob("*")):
        at = path.lstat()
        found[str(path.relative_to(root))] = (at.st_uid, at.st_mode, at.st_ino)
    return found
