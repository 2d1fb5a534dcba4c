"""The service, installed as a user would, on a real kernel with systemd and a V4L2 camera."""

from __future__ import annotations

import pytest

from tools.arm64.machine import Machine

from . import guest_checks
from .report import Report, assert_passed, run

pytestmark = pytest.mark.machine

SECONDS = 780


@pytest.fixture(scope="module")
def report(built: Machine) -> Report:
    return run(built, guest_checks.__file__, SECONDS)


@pytest.mark.parametrize("name", [check.__name__ for check in guest_checks.CHECKS])
def test_on_a_real_kernel(report: Report, name: str) -> None:
    assert_passed(report, name)
