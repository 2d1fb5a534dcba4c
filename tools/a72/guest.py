"""What the traced programs share. Runs inside the arm64 userland: standard library only."""

import os

MARK = 0x0EDE1000


def mark(label: int) -> None:
    """Cut the trace here: everything since the previous cut belongs to `label`. 0 starts the cache
    model."""
    try:
        os.getpgid(MARK + label)
    except OSError:
        pass  # no such process, as meant: the plug-in has seen the call
