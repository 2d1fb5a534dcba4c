"""The doctor survives what kills other programs, and says it in a sentence."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from edge_runtime.commands import doctor
from edge_runtime.commands.doctor import Finding, Options, run_check
from edge_runtime.system import telemetry
from tests.daemon import EDGE_LABEL, REPOSITORY
from tests.v4l2 import Driver


def dying(number: int) -> list[str]:
    return [sys.executable, "-c", f"import os; os.kill(os.getpid(), {number})"]


@pytest.mark.fault("M13")
@pytest.mark.parametrize(
    ("number", "says", "advises"),
    [
        (signal.SIGILL, "instructions this processor does not have", "onnxruntime!=1.21"),
        (signal.SIGABRT, "crashes (SIGABRT)", "reinstall"),
        (signal.SIGSEGV, "crashes (SIGSEGV)", "reinstall"),
        (signal.SIGKILL, "killed", "memory"),
    ],
)
def test_a_library_that_kills_its_process_becomes_a_sentence(number: int, says: str, advises: str):
    (finding,) = run_check("onnxruntime", dying(number))
    assert finding.level == "fail"
    assert says in finding.text
    assert advises in finding.advice


@pytest.mark.fault("M13")
def test_a_real_illegal_instruction_on_import_is_survived(tmp_path: Path):
    """A module that really executes ud2 (udf on ARM) when it is imported, as a wheel for another processor does."""
    (tmp_path / "onnxruntime.py").write_text(
        "import ctypes, mmap\n"
        "page = mmap.mmap(-1, 4096, prot=7)\n"
        "page.write(b'\\x0f\\x0b' if __import__('platform').machine() == 'x86_64' else bytes(4))\n"
        "ctypes.CFUNCTYPE(None)(ctypes.addressof(ctypes.c_char.from_buffer(page)))()\n"
    )
    command = [*EDGE_LABEL, "doctor", "--json", "--camera", "demo"]
    env = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")]),
    }
    done = subprocess.run(
        command, capture_output=True, text=True, cwd=REPOSITORY, env=env, timeout=120
    )
    findings = {f["check"]: f for f in json.loads(done.stdout)["findings"]}
    assert "SIGILL" in findings["onnxruntime"]["text"]
    assert findings["heat"]["level"] in ("ok", "warn"), "the checks after it still ran"
    assert done.returncode == 1


def test_a_check_that_hangs_is_given_up(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(doctor, "TIMEOUT_S", 0.5)
    (finding,) = run_check("camera", [sys.executable, "-c", "import time; time.sleep(60)"])
    assert "no answer" in finding.text


def test_an_import_error_is_its_own_last_line():
    (finding,) = run_check("numpy", [sys.executable, "-c", "import no_such_module"])
    assert finding.text == "ModuleNotFoundError: No module named 'no_such_module'"


def test_every_check_speaks_here(tiny_bundle: Path, tmp_path: Path):
    findings = doctor.examine(Options("demo", str(tiny_bundle), str(tmp_path / "run.jsonl")))
    assert {f.check for f in findings} == set(doctor.CHECKS)
    assert [f for f in findings if f.level == "fail"] == []
    assert json.loads(doctor.to_json(findings))["ok"] is True
    assert "nothing must be mended" in doctor.to_text(findings)


def test_a_damaged_bundle_is_found(tiny_bundle: Path):
    (tiny_bundle / "encoder.onnx").write_bytes(b"x")
    (finding,) = run_check("bundle", doctor._command("bundle"), Options(bundle=str(tiny_bundle)))
    assert finding.level == "fail"
    assert "reinstall" in finding.advice


def test_only_a_library_is_to_be_reinstalled_and_by_the_name_that_pip_knows():
    (finding,) = run_check("opencv", dying(signal.SIGSEGV))
    assert finding.advice.endswith("-m pip install --force-reinstall opencv-python-headless")


def test_what_this_user_may_not_look_at_is_said_as_such(tmp_path: Path, monkeypatch, capsys):
    def closed(path: Path, **_: bool) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr(Path, "stat", closed)
    ((level, text, advice),) = doctor.check_disk(Options(output="/var/lib/edge-label/labels.jsonl"))
    assert (level, "closed to this user" in text, "sudo" in advice) == ("warn", True, True)
    doctor._main("bundle", json.dumps({"bundle": "/closed"}))
    ((finding),) = json.loads(capsys.readouterr().out)
    assert finding["text"] == "/closed: Permission denied"


def test_the_label_set_of_a_configuration_is_looked_at(tiny_bundle: Path, tmp_path: Path):
    def labels(wanted: str) -> Finding:
        options = Options(bundle=str(tiny_bundle), labels=wanted)
        (finding,) = run_check("labels", doctor._command("labels"), options)
        return finding

    (tmp_path / "my.yaml").write_text("labels: [{name: overturned lorry}]")
    assert (labels("colours").level, labels("colours").text) == (
        "ok",
        "colours: 3 labels to report",
    )
    refused = labels(str(tmp_path / "my.yaml"))
    assert (refused.level, "my.yaml" in refused.text + refused.advice) == ("fail", True)


def test_a_missing_camera_says_what_to_do():
    assert doctor.check_camera(Options(camera="/dev/video77"))[0] == (
        "fail",
        "no_device: /dev/video77: no such camera",
        "plug it in",
    )


@pytest.fixture
def board(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """/dev and /sys of a board with one USB camera."""
    (tmp_path / "dev/v4l/by-id").mkdir(parents=True)
    (tmp_path / "dev/video0").touch()
    (tmp_path / "dev/v4l/by-id/usb-HD_Camera").symlink_to(tmp_path / "dev/video0")
    name = tmp_path / "sys/class/video4linux/video0/name"
    name.parent.mkdir(parents=True)
    name.write_text("HD Camera\n")
    monkeypatch.setattr(fcntl, "ioctl", Driver().ioctl)
    return tmp_path


def test_a_camera_is_described_with_its_formats_and_its_stable_name(board: Path):
    ((level, text, _),) = doctor.check_devices(Options(), board)
    assert level == "ok"
    assert "HD Camera (uvcvideo), YUYV 16x16 to 3840x2160, MJPG 640x480" in text
    assert "stable name" in text
    assert "usb-HD_Camera" in text


def test_a_csi_camera_is_explained(board: Path):
    (board / "sys/class/video4linux/video0/name").write_text("unicam-image\n")
    level, text, advice = doctor.check_devices(Options(), board)[-1]
    assert level == "warn"
    assert "libcamera" in text
    assert "libcamerify edge-label" in advice


def test_no_camera_at_all_is_told(tmp_path: Path):
    (tmp_path / "dev").mkdir()
    assert "no camera" in doctor.check_devices(Options(), tmp_path)[0][1]


def test_findings_are_lines_with_their_advice_below():
    text = doctor.to_text(
        [Finding("camera", "fail", "not there", "plug it in"), Finding("clock", "ok", "noon")]
    )
    assert text.splitlines() == [
        "fail  camera       not there",
        "                   -> plug it in",
        "ok    clock        noon",
        "1 of 2 findings must be mended",
    ]


@pytest.mark.parametrize(
    ("flags", "word"),
    [(0x50005, "power supply"), (0x20002, "cool the board"), (0x50000, "power supply")],
)
def test_a_board_that_is_throttled_hears_whether_it_wants_power_or_air(
    monkeypatch: pytest.MonkeyPatch, flags: int, word: str
):
    monkeypatch.setattr(telemetry, "throttle_flags", lambda: flags)
    level, text, advice = doctor.check_heat(Options())[-1]
    assert (level, word in advice) == ("warn", True)
    assert hex(flags) in text


def test_a_hot_processor_is_a_warning_and_a_warm_one_is_not(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(telemetry, "throttle_flags", lambda: None)
    for celsius, level in ((81.0, "warn"), (61.0, "ok")):
        monkeypatch.setattr(telemetry, "temperature_c", lambda celsius=celsius: celsius)
        assert [finding[:2] for finding in doctor.check_heat(Options())] == [
            (level, f"CPU at {celsius:.0f} °C")
        ]


def test_a_clock_that_nobody_set_is_a_warning(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(telemetry, "clock_unsynced", lambda: True)
    ((level, text, advice),) = doctor.check_clock(Options())
    assert (level, "nobody" in text, "timedatectl" in advice) == ("warn", True, True)


def test_a_disk_that_is_missing_read_only_or_full_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    options = Options(output=str(tmp_path / "run.jsonl"))
    level, text, advice = doctor.check_disk(Options(output=str(tmp_path / "no" / "run.jsonl")))[0]
    assert (level, text) == ("fail", f"{tmp_path / 'no'}: no such folder")
    assert advice.startswith(f"mkdir {tmp_path / 'no'};")
    for flag, blocks, level, word in (
        (os.ST_RDONLY, 10**6, "fail", "read-only"),
        (0, 10, "warn", "MB free"),
    ):
        facts = SimpleNamespace(f_bavail=blocks, f_frsize=4096, f_flag=flag)
        monkeypatch.setattr(doctor.os, "statvfs", lambda _folder, facts=facts: facts)
        assert [(lv, word in text) for lv, text, _ in doctor.check_disk(options)] == [(level, True)]


def test_too_little_memory_is_found_before_the_kernel_finds_it(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(doctor, "NEEDED_MB", 10**9)
    assert doctor.check_memory(Options())[0][0] == "fail"


def test_the_onnxruntime_that_kills_a_raspberry_pi_4_is_named(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("importlib.metadata.version", lambda _name: "1.21.1")
    ((level, _, advice),) = doctor.check_onnxruntime(Options())
    assert (level, "!=1.21" in advice) == ("fail", True)


def test_an_opencv_that_cannot_open_cameras_is_found(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("cv2.videoio_registry.getBackends", list)
    ((level, text, advice),) = doctor.check_opencv(Options())
    assert (level, "opencv-python-headless" in advice) == ("fail", True)
    assert text.endswith("without FFMPEG and V4L2")


def test_a_32_bit_system_is_told_so(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("platform.machine", lambda: "armv7l")
    assert doctor.check_system(Options())[0][0] == "fail"


def test_a_device_that_we_may_not_open_is_listed_with_the_reason(
    board: Path, monkeypatch: pytest.MonkeyPatch
):
    def denied(*_: object) -> int:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(doctor.os, "open", denied)
    assert (
        "Permission denied; group video may open it" in doctor.check_devices(Options(), board)[0][1]
    )
