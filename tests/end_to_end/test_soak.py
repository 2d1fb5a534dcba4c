"""A short soak in every run. The long one: `python -m tools.measure.soak --minutes 60 --check`."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tools.measure.soak import plot, soak


@pytest.mark.fault("P3")
def test_a_bad_camera_costs_neither_memory_nor_threads_nor_descriptors(
    tiny_bundle: Path, tmp_path: Path
):
    minutes = float(os.environ.get("EDGE_LABEL_SOAK_MINUTES", "0.5"))
    verdict, samples, records = soak(minutes, str(tiny_bundle), "colours")
    print(verdict)
    assert verdict.complaints(slope=minutes >= 30) == []
    assert {"ok", "stale", "frozen", "low_information"} <= set(verdict.states)
    assert verdict.absences >= 1
    plot(samples, records, tmp_path / "soak.png")
    assert (tmp_path / "soak.png").stat().st_size > 10_000
