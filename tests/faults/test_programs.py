"""The daemon with a program as its camera: labelled, restarted, and never left behind."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from tests.commands import need
from tests.daemon import Daemon, is_running, records_of, wait_until, write_config


def processes_with(word: str) -> list[int]:
    """Running programs (not this one, not the daemon) that have ``word`` as a whole argument."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes().split(b"\0")
        except OSError:
            continue
        pid = int(path.parent.name)
        if word.encode() in words and is_running(pid):
            found.append(pid)
    return found


def ffmpeg_camera(marker: str) -> str:
    scene = "-v error -re -f lavfi -i testsrc=size=160x120:rate=15"
    return f"exec:{need('ffmpeg', 'ffmpeg')} {scene} -metadata {marker} -c:v mjpeg -f mjpeg -"


@pytest.mark.fault("C19", "C21")
@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGKILL])
def test_a_program_labels_is_restarted_and_ends_with_the_daemon(
    tmp_path: Path, tiny_bundle: Path, end: signal.Signals
):
    """Killed, the daemon can end nobody: the program then ends as its pipe is closed."""
    marker = f"title={tmp_path.name}"
    camera = {"source": ffmpeg_camera(marker)}
    file = write_config(tmp_path / "c.yaml", tiny_bundle, camera=camera)
    output = tmp_path / "out.jsonl"
    with Daemon(tmp_path, "--config", file, "--output", output) as daemon:
        wait_until(lambda: len(records_of(output)) > 3 and records_of(output)[-1]["labels"])
        (first,) = processes_with(marker)
        os.kill(first, signal.SIGSEGV)
        wait_until(lambda: processes_with(marker) not in ([], [first]))
        wait_until(lambda: "was ended by SIGSEGV; trying again" in daemon.log)
        wait_until(lambda: "delivering frames again" in daemon.log)
        daemon.stop(end)
        wait_until(lambda: processes_with(marker) == [])
    assert "Traceback" not in daemon.log


@pytest.mark.fault("C21")
def test_a_reload_ends_the_old_program(tmp_path: Path, tiny_bundle: Path):
    marker = f"title={tmp_path.name}"
    file = write_config(tmp_path / "c.yaml", tiny_bundle, camera={"source": ffmpeg_camera(marker)})
    with Daemon(tmp_path, "--config", file, "--output", tmp_path / "out.jsonl") as daemon:
        wait_until(lambda: "delivering frames" in daemon.log)
        assert processes_with(marker)
        write_config(tmp_path / "c.yaml", tiny_bundle)
        daemon.process.send_signal(signal.SIGHUP)
        wait_until(lambda: "camera demo: delivering frames" in daemon.log)
        wait_until(lambda: processes_with(marker) == [])
        assert daemon.stop() == 0
