"""The service, installed as a user would, on a real kernel with systemd and a V4L2 camera."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest

from tools.arm64 import debian, machine

from . import guest_checks

pytestmark = pytest.mark.machine

SECONDS = 780


@pytest.fixture(scope="module")
def report(default_bundle: Path) -> dict[str, dict]:
    """Build the machine, boot it, run every check; what each saw, by name."""
    try:
        built = machine.build(default_bundle)
        status, output, seconds = built.run(Path(guest_checks.__file__), SECONDS)
    except debian.MissingPieceError as error:
        if os.environ.get("CI"):
            pytest.fail(f"missing in CI: {error}")
        pytest.skip(str(error))
    lines = [json.loads(line) for line in output.splitlines() if line.startswith("{")]
    print(f"\n{len(lines)} checks in {seconds:.0f} s, {status} failed", file=sys.stderr)
    return {line["check"]: line for line in lines}


@pytest.mark.parametrize("name", [check.__name__ for check in guest_checks.CHECKS])
def test_on_a_real_kernel(report: dict[str, dict], name: str) -> None:
    assert name in report, "the machine ended before this check"
    seen = report[name]
    print(f"{name}: {seen['seen']} ({seen['seconds']} s)")
    assert seen["ok"], seen["seen"]
