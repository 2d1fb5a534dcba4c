"""Memory, heat and speed are read from the kernel, and None where it does not tell."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from edge_runtime.system import telemetry


def test_rss_follows_what_is_allocated():
    """In a process of its own: this one may have 50 MB of freed memory to give away without growing."""
    code = (
        "import numpy as np; from edge_runtime.system import telemetry as t; before = t.rss_mb(); "
        "block = np.ones(50_000_000, np.uint8); print(t.rss_mb() - before, t.peak_rss_mb() - before)"
    )
    now, peak = map(float, subprocess.check_output([sys.executable, "-c", code], text=True).split())
    assert 45 < now < 60
    assert peak >= 45


def test_released_memory_is_gone_and_what_is_needed_again_still_works():
    """In a process of its own, which has used much of two large libraries just once."""
    code = (
        "import cv2, numpy as np; from edge_runtime.system import telemetry as t; "
        "own = lambda: (t.rss_mb() - t.anonymous_rss_mb(), t.anonymous_rss_mb()); use = lambda: (cv2.imencode('.jpg', "
        "np.arange(30000).astype(np.uint8).reshape(100, 100, 3))[1].sum(), np.linalg.inv(np.eye(3) * 4)[0, 0]); "
        "first, before = use(), own(); t.release_memory(); after = own(); "
        "print(before[0], after[0], before[1] - after[1], use() == first)"
    )
    before, after, own, same = subprocess.check_output(
        [sys.executable, "-c", code], text=True
    ).split()
    assert float(after) < float(before) / 2
    assert float(own) > -0.5
    assert same == "True"


def test_no_page_fault_can_map_more_of_a_library_than_a_piece():
    """Linux 6.18 maps the whole of a large folio at one touch, up to the end of the mapping."""
    code = (
        "import cv2; from edge_runtime.system import telemetry as t; "
        "longest = lambda: max(end - start for start, end in t._clean_file_mappings()); "
        "before = longest(); t.release_memory(); t.release_memory(); print(before, longest(), t._PIECE)"
    )
    before, after, piece = map(
        int, subprocess.check_output([sys.executable, "-c", code], text=True).split()
    )
    assert before > 4 * piece
    assert after <= piece


def test_pages_of_our_own_are_never_released_even_when_they_are_swapped_out(tmp_path: Path):
    def mapping(start: str, permissions: str, inode: int, anonymous: int, swap: int) -> str:
        return (
            f"{start}000-{start}fff {permissions} 00000000 fe:00 {inode}    /usr/lib/a b.so\nSize:  4 kB\n"
            f"Anonymous:    {anonymous} kB\nSwap:    {swap} kB\nSwapPss:    0 kB\nVmFlags: rd ex mr\n"
        )

    (tmp_path / "smaps").write_text(
        mapping("a1", "r-xp", 7, 0, 0)
        + mapping("a2", "r--p", 7, 4, 0)
        + mapping("a3", "r--p", 7, 0, 4)
        + mapping("a4", "rw-p", 7, 0, 0)
        + mapping("a5", "r-xp", 0, 0, 0)
        + mapping("a6", "r--p", 7, 0, 0)
    )
    assert telemetry._clean_file_mappings(tmp_path / "smaps") == [
        (0xA1000, 0xA1FFF),
        (0xA6000, 0xA6FFF),
    ]


def test_own_memory_is_a_part_of_rss():
    assert 0 < (telemetry.anonymous_rss_mb() or 0) < telemetry.rss_mb()


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
    monkeypatch.setattr(telemetry, "read_vitals", lambda _zones: next(readings))
    sampler = telemetry.VitalsSampler()
    assert [sampler(), sampler()] == [0, 0]
    now[0] += 1.0
    assert sampler() == 1


def test_the_boot_id_is_the_kernels():
    assert telemetry.boot_id() == Path("/proc/sys/kernel/random/boot_id").read_text().strip()


@pytest.mark.fault("T2")
def test_a_wall_clock_that_nothing_has_set_is_told(tmp_path: Path):
    """A Raspberry Pi boots in 1970, or at its last shutdown, until the network tells it the time."""
    today = 1_800_000_000.0
    assert telemetry.clock_unsynced(tmp_path / "no-timesyncd", now=lambda: 3600.0)
    assert not telemetry.clock_unsynced(tmp_path / "no-timesyncd", now=lambda: today)
    assert telemetry.clock_unsynced(tmp_path, now=lambda: today)
    (tmp_path / "synchronized").touch()
    assert not telemetry.clock_unsynced(tmp_path, now=lambda: today)


@pytest.mark.fault("P5")
def test_heat_is_shed_one_step_at_a_time_and_taken_back_when_it_is_cooler():
    governor = telemetry.ThermalGovernor(80.0)
    readings = [
        (0, 70, 1),
        (1, 81, 2),
        (2, 81, 2),
        (12, 81, 4),
        (23, 85, 8),
        (40, 90, 8),
        (41, 78, 8),
        (51, 74, 4),
    ]
    readings += [(52, 74, 4), (62, 74, 2), (73, 60, 1), (99, 20, 1)]
    assert [governor(temp, now) for now, temp, _ in readings] == [factor for *_, factor in readings]


def test_without_a_thermometer_or_a_limit_nothing_is_slowed():
    assert telemetry.ThermalGovernor(80.0)(None, 1.0) == 1
    assert telemetry.ThermalGovernor(None)(150.0, 1.0) == 1
