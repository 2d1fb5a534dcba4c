"""Memory, heat and speed are read from the kernel, and None where it does not tell."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edge_runtime import telemetry


def test_rss_follows_what_is_allocated():
    before = telemetry.rss_mb()
    block = np.ones(50_000_000, np.uint8)
    assert 45 < telemetry.rss_mb() - before < 60
    assert telemetry.peak_rss_mb() >= before + 45
    del block


def test_pss_is_at_most_rss():
    assert 0 < (telemetry.pss_mb() or 0) <= telemetry.rss_mb() * 1.05


def test_the_hottest_zone_counts_and_a_broken_one_does_not(tmp_path: Path):
    for i, text in enumerate(("41000", "61200", "nonsense")):
        (tmp_path / f"thermal_zone{i}").mkdir()
        (tmp_path / f"thermal_zone{i}" / "temp").write_text(text)
    assert telemetry.temperature_c(tmp_path) == 61.2
    assert telemetry.temperature_c(tmp_path / "none") is None


def test_only_present_throttling_counts(tmp_path: Path):
    flag = tmp_path / "get_throttled"
    for text, expected in (("0", False), ("50005", True), ("50000", False), ("x", None)):
        flag.write_text(text)
        assert telemetry.throttled(flag) is expected
    assert telemetry.throttled(tmp_path / "none") is None


def test_fps_is_over_the_last_thirty():
    meter = telemetry.FpsMeter(30)
    assert meter.tick(0) == 0
    for i in range(1, 100):
        fps = meter.tick(i / 25)
    assert fps == pytest.approx(25)


def test_vitals_are_read_once_a_second(monkeypatch: pytest.MonkeyPatch):
    now = [100.0]
    monkeypatch.setattr(telemetry.time, "monotonic", lambda: now[0])
    readings = iter(range(9))
    monkeypatch.setattr(telemetry, "read_vitals", lambda: next(readings))
    sampler = telemetry.VitalsSampler()
    assert [sampler(), sampler()] == [0, 0]
    now[0] += 1.0
    assert sampler() == 1


def test_the_boot_id_is_the_kernels():
    assert telemetry.boot_id() == Path("/proc/sys/kernel/random/boot_id").read_text().strip()
