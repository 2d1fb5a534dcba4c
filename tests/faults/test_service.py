"""What the service manager may rely on: READY, WATCHDOG, RELOADING, STOPPING, and exit codes."""

from __future__ import annotations

import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.daemon import EDGE_LABEL, REPOSITORY, Daemon, records_of, wait_until, write_config


@pytest.fixture
def demo_config(tmp_path: Path, tiny_bundle: Path) -> Path:
    return write_config(tmp_path / "edge-label.yaml", tiny_bundle)


@pytest.mark.fault("C1")
def test_ready_comes_before_the_first_frame_and_a_missing_camera_is_waited_for(
    tmp_path: Path, tiny_bundle: Path
):
    file = write_config(
        tmp_path / "c.yaml", tiny_bundle, camera={"source": "/dev/video-that-is-not-there"}
    )
    with Daemon(tmp_path, "--config", file) as daemon:
        daemon.wait_for("READY=1")
        daemon.wait_for("WATCHDOG=1\nSTATUS=camera no device")
        daemon.wait_for("WATCHDOG=1")
        assert daemon.log.count("no such camera") == 1
        assert daemon.stop() == 0


def test_the_watchdog_is_fed_by_records_and_the_status_says_what_is_seen(
    tmp_path: Path, demo_config: Path
):
    with Daemon(tmp_path, "--config", demo_config) as daemon:
        daemon.wait_for("READY=1")
        assert " FPS " in daemon.wait_for("WATCHDOG=1\nSTATUS=")


@pytest.mark.fault("P1")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_it_in_order_within_five_seconds(
    tmp_path: Path, demo_config: Path, number: int
):
    output = tmp_path / "out.jsonl"
    with Daemon(tmp_path, "--config", demo_config, "--output", output) as daemon:
        wait_until(lambda: len(records_of(output)) > 5)
        assert daemon.stop(number) == 0
        daemon.drain()
        assert any("STOPPING=1" in message for message in daemon.heard)

    assert output.read_text().endswith("\n")
    assert [r["seq"] for r in records_of(output)] == list(range(len(records_of(output))))


@pytest.mark.fault("P1")
def test_a_signal_may_fall_on_any_line_of_a_wait():
    """SIGTERM at every line that a hot CPU's wait executes, those of the standard library too."""
    code = """
import signal, sys, time
from edge_runtime.daemon.signals import Signals
signals = Signals()
def strike(frame, event, argument):
    signal.raise_signal(signal.SIGTERM)
    return strike
sys.settrace(strike)
signals.sleep_until(time.monotonic() + 60)
sys.settrace(None)
print(signals.stop)
"""
    result = subprocess.run(
        [EDGE_LABEL[0], "-c", code], cwd=REPOSITORY, capture_output=True, text=True, timeout=30
    )

    assert result.stdout == "True\n"


@pytest.mark.fault("P2")
def test_a_stopped_process_feeds_no_watchdog(tmp_path: Path, demo_config: Path):
    """systemd sees the silence and restarts; here the silence itself is shown."""
    with Daemon(tmp_path, "--config", demo_config) as daemon:
        daemon.wait_for("WATCHDOG=1")
        daemon.process.send_signal(signal.SIGSTOP)
        daemon.drain()
        with pytest.raises(AssertionError, match="not heard"):
            daemon.wait_for("WATCHDOG=1", timeout_s=2.5)
        daemon.process.send_signal(signal.SIGCONT)
        daemon.wait_for("WATCHDOG=1")


@pytest.mark.fault("M11")
def test_reload_takes_new_labels_between_two_frames(
    tmp_path: Path, tiny_bundle: Path, demo_config: Path
):
    output = tmp_path / "out.jsonl"
    labels = tmp_path / "mine.yaml"
    labels.write_text("labels: [{name: dark red}]\nbackground: [a photo of nothing]\n")

    with Daemon(tmp_path, "--config", demo_config, "--output", output) as daemon:
        daemon.wait_for("WATCHDOG=1")
        write_config(demo_config, tiny_bundle, model={"labels": str(labels)})
        daemon.process.send_signal(signal.SIGHUP)
        assert "MONOTONIC_USEC=" in daemon.wait_for("RELOADING=1")
        daemon.wait_for("READY=1\nSTATUS=reloaded")
        wait_until(lambda: records_of(output)[-1]["labels"][0]["name"] == "dark red")
        assert daemon.stop() == 0

    records = records_of(output)
    assert [r["seq"] for r in records] == list(range(len(records)))
    sets = {tuple(sorted(label["name"] for label in r["labels"])) for r in records}
    assert sets == {("blue", "green", "red"), ("dark red",)}
    assert len({r["labels_id"] for r in records}) == 2


@pytest.mark.fault("M11")
@pytest.mark.parametrize(
    "broken",
    [
        "camera: {sauce: demo}",
        "model: {labels: nothing-like-it}",
        "]",
        "camera: {source: /no/such/file.mp4}",
    ],
)
def test_a_broken_reload_keeps_the_last_good_one(tmp_path: Path, demo_config: Path, broken: str):
    output = tmp_path / "out.jsonl"
    with Daemon(tmp_path, "--config", demo_config, "--output", output) as daemon:
        daemon.wait_for("WATCHDOG=1")
        good = demo_config.read_text()
        demo_config.write_text(broken)
        daemon.process.send_signal(signal.SIGHUP)
        daemon.wait_for("STATUS=reload refused")
        before = len(records_of(output))
        wait_until(lambda: len(records_of(output)) > before + 5)
        assert daemon.log.count("reload refused") == 1
        demo_config.write_text(good)
        daemon.process.send_signal(signal.SIGHUP)
        daemon.wait_for("STATUS=reloaded")
        assert daemon.stop() == 0

    assert len({r["labels_id"] for r in records_of(output)}) == 1


def test_reload_can_move_to_another_camera_and_another_file(
    tmp_path: Path, tiny_bundle: Path, demo_config: Path
):
    first, second = tmp_path / "first.jsonl", tmp_path / "second.jsonl"
    write_config(demo_config, tiny_bundle, output={"file": str(first)})

    with Daemon(tmp_path, "--config", demo_config) as daemon:
        wait_until(lambda: records_of(first))
        write_config(demo_config, tiny_bundle, camera={"width": 320}, output={"file": str(second)})
        daemon.process.send_signal(signal.SIGHUP)
        wait_until(lambda: records_of(second))
        assert daemon.stop() == 0

    numbers = [r["seq"] for r in records_of(first) + records_of(second)]
    assert numbers == list(range(len(numbers)))


@pytest.mark.fault("M11")
def test_a_storm_of_reloads_loses_no_record(tmp_path: Path, demo_config: Path):
    output = tmp_path / "out.jsonl"
    with Daemon(tmp_path, "--config", demo_config, "--output", output) as daemon:
        daemon.wait_for("READY=1")
        for _ in range(50):
            daemon.process.send_signal(signal.SIGHUP)
            time.sleep(0.02)  # the pace of the storm; nothing waits for it
        before = len(records_of(output))
        wait_until(lambda: len(records_of(output)) > before + 5)
        assert daemon.stop() == 0

    records = records_of(output)
    assert [r["seq"] for r in records] == list(range(len(records)))


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("camera: {widht: 1}", 78),
        ("model: {bundle: /nowhere}", 66),
        ("model: {labels: zebras}", 66),
    ],
)
def test_what_a_restart_cannot_help_ends_with_its_own_code(
    tmp_path: Path, tiny_bundle: Path, text: str, code: int
):
    file = tmp_path / "c.yaml"
    file.write_text(text)
    command = [
        *EDGE_LABEL,
        "--config",
        str(file),
        *([] if "bundle" in text else ["--bundle", str(tiny_bundle)]),
    ]
    result = subprocess.run(command, capture_output=True, text=True, cwd=REPOSITORY, timeout=30)

    assert result.returncode == code
    assert len(result.stderr.splitlines()) == 1
