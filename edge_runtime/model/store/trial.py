"""What the starts of a service found out about an installed bundle: one line in the service's file.

The store belongs to the user who installs, and the service only reads it. The service cannot switch
a link back, so it remembers here that the current bundle failed, and uses the previous one. Root
reads the file at the next install, and all that it decides is which of two installed bundles stays.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

from edge_runtime.errors import DataError
from edge_runtime.system.files import write_atomically
from edge_runtime.system.state import service_state_folder

# systemd makes the services' state directories here: edge-label, edge-label-rear ...
STATE_ROOT = Path("/var/lib")

# The verdicts. STARTED stays behind where the process died in the trial.
UNTRIED = "untried"
STARTED = "started"
PASSED = "passed"
FAILED = "failed"

_MAX_BYTES = 300  # a verdict and a bundle's name are shorter; the file may be a stranger's


class Trial:
    """The verdict on one bundle, the newest that was tried.

    ``file`` is None where this user has no place to keep it.
    """

    def __init__(self, file: Path | None) -> None:
        self.file = file

    @classmethod
    def of(cls, store_root: Path) -> Trial:
        """In the state directory that systemd gave this service, else in the store, if writable."""
        state = service_state_folder()
        if state:
            return cls(state / "trial")
        return cls(store_root / "trial" if os.access(store_root, os.W_OK) else None)

    def verdict(self, bundle: str) -> str | None:
        """What is known of the bundle of this name; None for one that was never tried."""
        if self.file is None:
            return None
        verdict, name = _read(self.file)
        return verdict if name == bundle else None

    def note(self, verdict: str, bundle: str) -> None:
        """Keep the verdict.

        On a full or read-only disk it is lost, and the next start tries the bundle again.
        """
        if self.file is None:
            return
        try:
            write_atomically(self.file, f"{verdict} {bundle}\n".encode(), mode=0o644)
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
    """(verdict, bundle), both empty where there is none.

    Root may read this, and a less trusted user may have made it: no link is followed, and no pipe
    is waited for.
    """
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return "", ""

    try:
        is_file = stat.S_ISREG(os.fstat(fd).st_mode)
        data = os.read(fd, _MAX_BYTES) if is_file else b""
    except OSError:
        data = b""
    finally:
        os.close(fd)

    words = data.decode("ascii", "replace").split()
    return (words[0], words[1]) if len(words) == 2 else ("", "")
