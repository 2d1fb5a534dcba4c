"""`labels learn` on an emulated Cortex-A72: it runs, and stays within memory."""

from __future__ import annotations

import pytest

from tests.commands import missing
from tools.a72 import learn
from tools.arm64 import debian
from tools.arm64.userland import Userland

pytestmark = pytest.mark.arm64


def test_teaching_stays_within_memory(userland: Userland) -> None:
    try:
        work, rss_mb = learn.measure(userland, 20)
    except debian.MissingPieceError as error:
        missing(error)
    print(learn.report(work, rss_mb, 20))
    assert rss_mb <= learn.BUDGET_RSS_MB
    assert work["encode"].instructions > work["teach"].instructions > 0
