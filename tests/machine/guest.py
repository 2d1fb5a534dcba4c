"""What the programs that run inside the machine share. Standard library only.

``Machine.run`` lays this file beside the program in /mnt.
"""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable, Sequence


def sh(command: str) -> str:
    """Run a shell command; its output, whatever its status."""
    return _run(command)[1]


def must(command: str) -> str:
    """Run a shell command that must succeed; its output."""
    status, text = _run(command)
    assert status == 0, f"{command}: {status}: {text[-1500:]}"
    return text


def _run(command: str) -> tuple[int, str]:
    done = subprocess.run(command, shell=True, capture_output=True, text=True, check=False)
    return done.returncode, (done.stdout + done.stderr).strip()


def run_checks(checks: Sequence[Callable[[], str]]) -> int:
    """Run the checks in order and print one JSON line about each; how many failed."""
    failed = 0
    for check in checks:
        start = time.monotonic()
        try:
            ok, seen = True, check()
        except Exception as error:  # a check that breaks is one that failed
            ok, seen, failed = False, f"{type(error).__name__}: {error}", failed + 1
        seconds = round(time.monotonic() - start, 1)
        print(
            json.dumps({"check": check.__name__, "ok": ok, "seen": seen, "seconds": seconds}),
            flush=True,
        )
    return failed
