"""Boots the machine, runs the checks of a guest program in it, and says what they saw."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path

from tools.arm64.machine import Machine

from . import guest

Report = dict[str, dict]


def run(built: Machine, program: str, limit_s: float, files: Sequence[Path] = ()) -> Report:
    """What each check of `program` saw, by the check's name."""
    beside = [Path(guest.__file__), *files]
    status, output, seconds = built.run(Path(program), limit_s, files=beside)
    lines = [json.loads(line) for line in output.splitlines() if line.startswith("{")]
    print(f"\n{len(lines)} checks in {seconds:.0f} s, {status} failed", file=sys.stderr)
    return {line["check"]: line for line in lines}


def assert_passed(report: Report, name: str) -> None:
    """The check ran and found what it looked for; prints what it saw."""
    assert name in report, "the machine ended before this check"
    seen = report[name]
    print(f"{name}: {seen['seen']} ({seen['seconds']} s)")
    assert seen["ok"], seen["seen"]
