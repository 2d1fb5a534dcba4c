"""Commands that run a module of this package in a child process.

A child imports nothing from the current folder: that may be a stranger's USB stick.
"""

from __future__ import annotations

import sys
from pathlib import Path

_PACKAGE_PARENT = Path(__file__).resolve().parents[2]

# This package comes last on the path: nothing beside it may replace one of Python's own modules.
_RUN = (
    "import runpy, sys; sys.path.append(sys.argv.pop(1)); del sys.argv[0]; "
    "runpy.run_module(sys.argv[0], run_name='__main__', alter_sys=True)"
)


def last_line(stderr: str) -> str:
    """The last line that a child wrote, which says why it failed; empty where it wrote nothing."""
    lines = stderr.strip().splitlines()
    return lines[-1] if lines else ""


def command(module: str, *arguments: str) -> list[str]:
    """The command line that runs ``module`` in this Python, with ``arguments``."""
    # -P keeps the current folder off the path.
    return [sys.executable, "-P", "-c", _RUN, str(_PACKAGE_PARENT), module, *arguments]
