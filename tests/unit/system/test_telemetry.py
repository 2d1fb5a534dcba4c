"""Heat, speed and the clock are read from the kernel, and None where it does not tell."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge_runtime.system import telemetry


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
    meter = telemetry.FpsMeter()
    assert meter.tick(0) == 0
    for i in range(1, 100):
        fps = meter.tick(i / 25)
    assert fps == pytest.approx(25)


def test_vitals_are_read_once_a_second(monkeypatch: pytest.MonkeyPatch):
    now = [100.0]
    monkeypatch.setattr(telemetry.time, "monotonic", lambda: now[0])
    readings = iter(range(9))
    monkeypatch.setattr(telemetry, "read_vitals", lambda _zones: next(readings))
    sampler = telemetry.VitalsSampler()
    assert [sampler(), sampler()] == [0, 0]
    now[0] += 1.0
    assert sampler() == 1


def test_the_boot_id_is_the_kernels():
    assert telemetry.boot_id() == Path("/proc/sys/kernel/random/boot_id").read_text().strip()


@pytest.mark.fault("T2")
def test_a_wall_clock_that_nothing_has_set_is_told(tmp_path: Path):
    """Without the network's time, a Raspberry Pi boots in 1970 or at its last shutdown."""
    today = 1_800_000_000.0
    assert telemetry.clock_unsynced(tmp_path / "no-timesyncd", now=lambda: 3600.0)
    assert not telemetry.clock_unsynced(tmp_path / "no-timesyncd", now=lambda: today)
    assert telemetry.clock_unsynced(tmp_path, now=lambda: today)
    (tmp_path / "synchronized").touch()
    assert not telemetry.clock_unsynced(tmp_path, now=lambda: today)
