"""What the starts of a service found out about a bundle that was installed: one line in a file of the service's own.

The store belongs to who installs, and the service only reads it. So the service cannot switch a link back; it
remembers here that the current bundle failed, and uses the previous one. Root reads the file at the next install, and
believes no more of it than which of the two installed bundles stays.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

from edge_runtime.errors import DataError
from edge_runtime.system.files import write_atomically

STATE_ROOT = Path(
    "/var/lib"
)  # systemd makes the services' state directories there: edge-label, edge-label-rear ...
UNTRIED, STARTED, PASSED, FAILED = "untried", "started", "passed", "failed"
_LONGEST = 300


class Trial:
    """The verdict on one bundle, the newest that was tried. ``file`` None: this user has no place to keep it."""

    def __init__(self, file: Path | None) -> None:
        self.file = file

    @classmethod
    def of(cls, store_root: Path) -> Trial:
        """In the state directory that systemd gave this service; else in the store, where this user may write."""
        state = os.environ.get("STATE_DIRECTORY", "").split(":")[0]
        if state:
            return cls(Path(state) / "trial")
        return cls(store_root / "trial" if os.access(store_root, os.W_OK) else None)

    def verdict(self, bundle: str) -> str | None:
        """What is known of the bundle of this name; None for one that was never tried."""
        state, name = _read(self.file) if self.file else ("", "")
        return state if name == bundle else None

    def note(self, state: str, bundle: str) -> None:
        """Keep the verdict. On a full or read-only disk it is lost, and the next start tries the bundle again."""
        if self.file is None:
            return
        try:
            write_atomically(self.file, f"{state} {bundle}\n".encode(), mode=0o644)
        except DataError:
            pass


def failures(store_root: Path, bundle: str) -> list[Path]:
    """The files in which a service says that this bundle failed."""
    return [path for path in _known_files(store_root) if _read(path) == (FAILED, bundle)]


def _known_files(store_root: Path) -> Iterator[Path]:
    yield store_root / "trial"
    for folder in sorted(STATE_ROOT.glob("edge-label*")):
        yield folder / "trial"


def _read(path: Path) -> tuple[str, str]:
    """(state, bundle), both empty when there is none. The file may be a less trusted user's: no link, no pipe."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return "", ""
    try:
        is_file = stat.S_ISREG(os.fstat(fd).st_mode)
        words = os.read(fd, _LONGEST).decode("ascii", "replace").split() if is_file else []
    except OSError:
        words = []
    finally:
        os.close(fd)
    return (words[0], words[1]) if len(words) == 2 else ("", "")
