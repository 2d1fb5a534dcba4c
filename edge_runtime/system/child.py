"""Processes that run a module of ours, and import nothing from the current folder: that may be a stranger's stick."""

from __future__ import annotations

import sys
from pathlib import Path

# This package comes last on the path: nothing beside it may stand in for Python's own modules.
_RUN = (
    "import runpy, sys; sys.path.append(sys.argv.pop(1)); del sys.argv[0]; "
    "runpy.run_module(sys.argv[0], run_name='__main__', alter_sys=True)"
)


def command(module: str, *arguments: str) -> list[str]:
    """What runs ``module`` in this Python with ``arguments``; -P keeps the current folder off the path."""
    return [
        sys.executable,
        "-P",
        "-c",
        _RUN,
        str(Path(__file__).resolve().parents[2]),
        module,
        *arguments,
    ]
