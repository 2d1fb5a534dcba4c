"""A clock that is wrong moves no timeout, and a hot CPU labels fewer frames."""

from __future__ import annotations

import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from tests.daemon import REPOSITORY, Daemon, records_of, wait_until, write_config


def demo_run(code: str, bundle: Path) -> list[str]:
    """A command that runs ``code`` in the place of edge-label, with the demo camera."""
    program = [sys.executable, "-c", textwrap.dedent(code)]
    return [*program, "--camera", "demo", "--bundle", str(bundle)]


@pytest.mark.fault("P5")
def test_a_hot_cpu_labels_fewer_frames_and_says_so(tmp_path: Path, tiny_bundle: Path):
    output = tmp_path / "out.jsonl"
    zone = tmp_path / "thermal" / "thermal_zone0"
    zone.mkdir(parents=True)
    (zone / "temp").write_text("45000")
    thermal = {"limit_c": 70, "zones": str(zone.parent)}
    file = write_config(tmp_path / "c.yaml", tiny_bundle, thermal=thermal)
    with Daemon(tmp_path, "--config", file, "--output", output) as daemon:
        wait_until(lambda: len(records_of(output)) > 40)
        cool = records_of(output)[-1]
        (zone / "temp").write_text("82500")
        wait_until(lambda: any("slowed" in r for r in records_of(output)))
        seen = len(records_of(output))
        hot = wait_until(
            lambda: len(records_of(output)) > seen + 32 and records_of(output)[seen + 32]
        )
        assert daemon.stop() == 0
    assert "slowed" not in cool
    assert (hot["slowed"], hot["temp_c"]) == (2, 82.5)
    assert hot["fps"] < 0.75 * cool["fps"]
    assert "labelling one of 2 frames" in daemon.log


def test_a_camera_is_labelled_no_more_often_than_asked(tmp_path: Path, tiny_bundle: Path):
    output = tmp_path / "out.jsonl"
    file = write_config(tmp_path / "c.yaml", tiny_bundle, camera={"max_fps": 4})
    with Daemon(tmp_path, "--config", file, "--output", output) as daemon:
        wait_until(lambda: len(records_of(output)) >= 5)
        assert daemon.stop() == 0
    times = [record["mono_s"] for record in records_of(output)]
    assert times[4] - times[0] >= 4 * 0.25 - 0.05  # 0.13 s at the camera's own 30 a second
    assert records_of(output)[4]["dropped"] > 0


@pytest.mark.fault("T1")
def test_a_wall_clock_that_jumps_moves_no_timeout(tmp_path: Path, tiny_bundle: Path):
    """The wall clock leaps a day at every look; frames, records and the end keep their time."""
    code = """
        import itertools, sys, time
        days = itertools.count()
        time.time = lambda: 1.9e9 + (-1) ** (n := next(days)) * n * 86400.0
        from edge_runtime.cli import main
        sys.exit(main(sys.argv[1:]))
    """
    output = tmp_path / "out.jsonl"
    command = demo_run(code, tiny_bundle)
    start = time.monotonic()
    subprocess.run(
        [*command, "--labels", "colours", "--seconds", "3", "--output", str(output)],
        check=True,
        cwd=REPOSITORY,
        timeout=30,
    )
    assert time.monotonic() - start < 15
    records = records_of(output)
    assert len({r["time"][:10] for r in records}) > 10
    assert 20 < records[-1]["fps"] < 40
    assert not any(r["state"] == "stale" for r in records)


@pytest.mark.fault("T2")
def test_a_boot_in_1970_is_flagged_in_every_record(tmp_path: Path, tiny_bundle: Path):
    code = """
        import sys, time
        start = time.monotonic()
        time.time = lambda: time.monotonic() - start
        from edge_runtime.cli import main
        sys.exit(main(sys.argv[1:]))
    """
    output = tmp_path / "out.jsonl"
    command = demo_run(code, tiny_bundle)
    subprocess.run(
        [*command, "--labels", "colours", "--frames", "5", "--output", str(output)],
        check=True,
        cwd=REPOSITORY,
        timeout=30,
    )
    records = records_of(output)
    assert all(r["clock_unsynced"] is True for r in records)
    assert records[0]["time"].startswith("1970-01-01")
