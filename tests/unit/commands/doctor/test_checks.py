"""Each check answers in a sentence, with what to do about it."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path
from types import SimpleNamespace

import pytest

from edge_runtime.commands.doctor import checks
from edge_runtime.commands.doctor.answers import Options
from edge_runtime.system import telemetry


def test_what_this_user_may_not_look_at_is_said_as_such(tmp_path: Path, monkeypatch, capsys):
    def closed(path: Path, **_: bool) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr(Path, "stat", closed)
    ((level, text, advice),) = checks.check_disk(Options(output="/var/lib/edge-label/labels.jsonl"))
    assert (level, "closed to this user" in text, "sudo" in advice) == ("warn", True, True)
    checks.main("bundle", json.dumps({"bundle": "/closed"}))
    ((finding),) = json.loads(capsys.readouterr().out)
    assert finding["text"] == "/closed: Permission denied"


@pytest.mark.parametrize(
    ("flags", "word"),
    [(0x50005, "power supply"), (0x20002, "cool the board"), (0x50000, "power supply")],
)
def test_a_board_that_is_throttled_hears_whether_it_wants_power_or_air(
    monkeypatch: pytest.MonkeyPatch, flags: int, word: str
):
    monkeypatch.setattr(telemetry, "throttle_flags", lambda: flags)
    level, text, advice = checks.check_heat(Options())[-1]
    assert (level, word in advice) == ("warn", True)
    assert hex(flags) in text


def test_a_hot_processor_is_a_warning_and_a_warm_one_is_not(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(telemetry, "throttle_flags", lambda: None)
    for celsius, level in ((81.0, "warn"), (61.0, "ok")):
        monkeypatch.setattr(telemetry, "temperature_c", lambda celsius=celsius: celsius)
        assert [finding[:2] for finding in checks.check_heat(Options())] == [
            (level, f"CPU at {celsius:.0f} °C")
        ]


def test_a_clock_that_nobody_set_is_a_warning(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(telemetry, "clock_unsynced", lambda: True)
    ((level, text, advice),) = checks.check_clock(Options())
    assert (level, "nobody" in text, "timedatectl" in advice) == ("warn", True, True)


def test_a_disk_that_is_missing_read_only_or_full_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    options = Options(output=str(tmp_path / "run.jsonl"))
    level, text, advice = checks.check_disk(Options(output=str(tmp_path / "no" / "run.jsonl")))[0]
    assert (level, text) == ("fail", f"{tmp_path / 'no'}: no such folder")
    assert advice.startswith(f"mkdir {tmp_path / 'no'};")
    for flag, blocks, level, word in (
        (os.ST_RDONLY, 10**6, "fail", "read-only"),
        (0, 10, "warn", "MB free"),
    ):
        facts = SimpleNamespace(f_bavail=blocks, f_frsize=4096, f_flag=flag)
        monkeypatch.setattr(checks.os, "statvfs", lambda _folder, facts=facts: facts)
        assert [(lv, word in text) for lv, text, _ in checks.check_disk(options)] == [(level, True)]


def test_too_little_memory_is_found_before_the_kernel_finds_it(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(checks, "NEEDED_MB", 10**9)
    assert checks.check_memory(Options())[0][0] == "fail"


def test_the_onnxruntime_that_kills_a_raspberry_pi_4_is_named(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("importlib.metadata.version", lambda _name: "1.21.1")
    ((level, _, advice),) = checks.check_onnxruntime(Options())
    assert (level, "!=1.21" in advice) == ("fail", True)


def test_an_opencv_that_cannot_open_cameras_is_found(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("cv2.videoio_registry.getBackends", list)
    ((level, text, advice),) = checks.check_opencv(Options())
    assert (level, "opencv-python-headless" in advice) == ("fail", True)
    assert text.endswith("without FFMPEG and V4L2")


def test_a_32_bit_system_is_told_so(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("platform.machine", lambda: "armv7l")
    assert checks.check_system(Options())[0][0] == "fail"
