"""A program that writes pictures is a camera: supervised, and run without a shell."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from edge_runtime.camera import live, open_source, program
from edge_runtime.camera.child import Child
from edge_runtime.camera.live import LiveSource
from edge_runtime.camera.program import Program
from edge_runtime.config import CameraConfig
from edge_runtime.errors import ConfigError, DeviceError, StuckError
from tests.commands import need
from tests.daemon import is_running
from tests.doubles.mjpeg_camera import jpegs
from tests.live_camera import frames, live_sources, read_until


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """A second's back-off is a tenth of one here."""
    monkeypatch.setattr(live, "BACKOFF_FIRST_S", 0.1)
    monkeypatch.setattr(program, "LIMIT_S", 1.0)


@pytest.fixture
def script(tmp_path: Path) -> Callable[[str], str]:
    """The source of a shell script, which finds three pictures in the file $pictures."""
    (tmp_path / "pictures.mjpeg").write_bytes(b"".join(jpegs(3)))
    (tmp_path / "picture.jpg").write_bytes(jpegs(1)[0])

    def write(body: str) -> str:
        path = tmp_path / "camera.sh"
        head = f"#!/bin/sh\ncd {tmp_path}\necho start >> starts\n"
        path.write_text(head + body + "\n")
        path.chmod(0o755)
        return f"exec:{path}"

    return write


@pytest.fixture
def opened() -> Iterator[Callable[..., LiveSource]]:
    """Live sources that are closed at the end of the test."""
    with live_sources() as of:
        yield of


def starts(folder: Path) -> int:
    path = folder / "starts"
    return len(path.read_text().splitlines()) if path.exists() else 0


@pytest.mark.fault("C19")
def test_a_program_that_ends_is_started_again_and_its_last_words_are_in_the_log(
    script: Callable[[str], str],
    opened: Callable[..., LiveSource],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
):
    caplog.set_level(logging.INFO)
    source = opened(script("cat pictures.mjpeg; echo ERROR: sensor lost >&2; exit 3"))
    seen = read_until(source, lambda _: starts(tmp_path) > 2)
    assert seen
    line = "ended with exit code 3; it says: ERROR: sensor lost; trying again"
    assert f"camera {source.name}: {line}" in caplog.text
    assert caplog.text.count("sends JPEGs of 320x240") == 1


@pytest.mark.fault("C19")
@pytest.mark.parametrize(
    ("body", "says"),
    [
        ("exec sleep 1000", "no picture for 1 s; trying again"),
        ("cat pictures.mjpeg; exec sleep 1000", "no picture for 1 s; trying again"),
        ("echo no camera >&2; exec sleep 1000", "no picture for 1 s; it says: no camera"),
        ("echo hello; exec sleep 1000", "no picture in 6 bytes of output; it must write MJPEG"),
        ("exec >&-; exec sleep 1000", "closed its output; it must write MJPEG"),
        ("kill -SEGV $$", "was ended by SIGSEGV"),
        ("exit 0", "ended with exit code 0; it must write MJPEG"),
        ("exit 127", "ended with exit code 127; trying again"),
        ("exec cat /dev/zero", "no picture in 16 MB; it must write MJPEG"),
    ],
)
def test_every_fault_of_a_program_is_one_calm_line_and_it_is_started_again(
    script: Callable[[str], str],
    opened: Callable[..., LiveSource],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    body: str,
    says: str,
):
    source = opened(script(body))
    read_until(source, lambda _: starts(tmp_path) > 1)
    warnings = [record.message for record in caplog.records if record.levelno >= logging.WARNING]
    assert says in warnings[-1]
    assert len([line for line in warnings if says in line]) == 1
    assert "\n" not in warnings[-1]


@pytest.mark.fault("C3")
def test_a_program_that_no_signal_ends_is_a_stuck_camera(
    script: Callable[[str], str], opened: Callable[..., LiveSource], monkeypatch: pytest.MonkeyPatch
):
    """A driver may keep a killed program for ever; only a restart of the service helps then."""
    signals: list[tuple[Child, int]] = []
    monkeypatch.setattr(Child, "_signal", lambda child, number: signals.append((child, number)))
    source = opened(script("exec sleep 1000"))
    source._pace.stuck_s = 3.0
    with pytest.raises(StuckError, match="only a new process can help"):
        read_until(source, lambda _: False)
    child, number = signals[-1]
    assert number == signal.SIGKILL
    os.killpg(child._process.pid, number)


@pytest.mark.fault("C21")
def test_a_program_ends_with_its_source(
    script: Callable[[str], str], opened: Callable[..., LiveSource], tmp_path: Path
):
    source = opened(script("echo $$ > pid; cat pictures.mjpeg; exec sleep 1000"))
    read_until(source, lambda _: source.state == "ok")
    pid = int((tmp_path / "pid").read_text())
    assert is_running(pid)
    source.close()
    assert not is_running(pid)


@pytest.mark.fault("C19")
def test_a_program_that_is_not_there_is_found_as_soon_as_it_is(
    script: Callable[[str], str],
    opened: Callable[..., LiveSource],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setattr(live, "BACKOFF_FIRST_S", 1000)
    monkeypatch.setattr(live, "LOOK_S", 0.05)
    name = script("cat pictures.mjpeg; exec sleep 1000")
    (tmp_path / "camera.sh").rename(tmp_path / "hidden")
    source = opened(name)
    read_until(source, lambda _: source.state == "no_device")
    assert "there is no program" in caplog.text
    (tmp_path / "hidden").rename(tmp_path / "camera.sh")
    read_until(source, lambda _: source.state == "ok")


@pytest.mark.fault("C19")
def test_what_cannot_be_run_is_one_line(tmp_path: Path):
    (tmp_path / "text").write_text("hello")
    (tmp_path / "text").chmod(0o755)
    with pytest.raises(DeviceError, match="cannot be run: Exec format error") as error:
        Program(CameraConfig(f"exec:{tmp_path}/text")).open()
    assert error.value.state == "no_device"
    (tmp_path / "text").chmod(0o644)
    with pytest.raises(DeviceError, match="or it is not executable"):
        Program(CameraConfig(f"exec:{tmp_path}/text")).open()


def test_no_shell_sees_the_command(
    script: Callable[[str], str], opened: Callable[..., LiveSource], tmp_path: Path
):
    name = script('for word; do echo "$word" >> words; done; cat pictures.mjpeg; exec sleep 1000')
    source = opened(f"{name} $(touch {tmp_path}/gone) ; 'two words' `id` $HOME")
    read_until(source, lambda _: source.state == "ok")
    assert not (tmp_path / "gone").exists()
    words = (tmp_path / "words").read_text().splitlines()
    assert words == ["$(touch", f"{tmp_path}/gone)", ";", "two words", "`id`", "$HOME"]


@pytest.mark.parametrize(
    ("source", "says"), [("exec:'a b", "No closing quotation"), ("exec: ", "without a program")]
)
def test_a_command_that_is_none_stops_the_start(source: str, says: str):
    with pytest.raises(ConfigError, match=says):
        open_source(CameraConfig(source=source))


def test_a_program_for_single_pictures_is_run_again_and_again(
    script: Callable[[str], str],
    opened: Callable[..., LiveSource],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
):
    caplog.set_level(logging.INFO)
    source = opened(script("cat picture.jpg"))
    start = time.monotonic()
    read_until(source, lambda _: starts(tmp_path) > 2)
    assert time.monotonic() - start > 1.5, "no more than one picture a second"
    assert caplog.text.count("gives one picture and ends; it is started every 1 s") == 1
    assert "WARNING" not in caplog.text
    assert source.state == "ok"


def fake(folder: Path, name: str) -> None:
    """A program that writes down how it was called."""
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(f"#!/bin/sh\necho $0 $* > {folder}/called\nexec sleep 1000\n")
    (folder / name).chmod(0o755)


@pytest.mark.parametrize("name", ["rpicam-vid", "libcamera-vid"])
def test_libcamera_is_the_program_that_this_system_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, opened: Callable[..., LiveSource], name: str
):
    fake(tmp_path / "bin", name)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/usr/bin:/bin")
    source = opened("libcamera", width=800, height=600, fps=15)
    called = tmp_path / "bin" / "called"
    read_until(source, lambda _: called.exists() and called.read_text().endswith("\n"))
    assert called.read_text() == (
        f"{tmp_path}/bin/{name} --timeout 0 --nopreview --width 800 --height 600 --framerate 15 "
        "--codec mjpeg --flush --output -\n"
    )


def test_libcamera_without_its_program_says_what_to_install(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(DeviceError, match="sudo apt install rpicam-apps"):
        Program(CameraConfig("libcamera")).open()
    with pytest.raises(ConfigError, match="libcamera gives MJPG or YU12, not GREY"):
        Program(CameraConfig("libcamera", fourcc="GREY"))


def test_libcamera_gives_raw_pictures_too():
    assert "yuv420" in Program(CameraConfig("libcamera", fourcc="YU12"))._command


@pytest.mark.parametrize(
    ("fourcc", "form"),
    [("auto", "-c:v mjpeg -f mjpeg"), ("YU12", "-pix_fmt yuv420p -f rawvideo")],
)
def test_ffmpeg_is_a_camera(opened: Callable[..., LiveSource], fourcc: str, form: str):
    ffmpeg = need("ffmpeg", "ffmpeg")
    scene = "-v error -re -f lavfi -i testsrc=size=160x120:rate=15"
    source = opened(f"exec:{ffmpeg} {scene} {form} -", fourcc=fourcc, width=160, height=120)
    assert {frame.encoding for frame in frames(source, 5)} == {
        "mjpg" if fourcc == "auto" else "yu12"
    }


@pytest.mark.fault("K2")
def test_a_password_in_a_command_is_shown_nowhere_and_warned_of(caplog: pytest.LogCaptureFixture):
    command = "exec:ffmpeg -i rtsp://me:hunter2@h/s --password hunter3 token=hunter4 -f mjpeg -"
    with_secrets = Program(CameraConfig(command))
    assert with_secrets.name == (
        "exec:ffmpeg -i rtsp://***@h/s --password *** token=*** -f mjpeg -"
    )
    assert "which every user can see with ps" in caplog.text
    assert "hunter" not in caplog.text


def test_a_v4l2_camera_imports_nothing_of_this():
    """Only what a source needs is imported for it: memory is what this program is about."""
    code = (
        "import sys; from edge_runtime.camera import open_source; "
        "from edge_runtime.config import CameraConfig; open_source(CameraConfig()); "
        "import edge_runtime.daemon.service; print(*sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    modules = done.stdout.split()
    assert "edge_runtime.camera.v4l2" in modules
    ours = {f"edge_runtime.camera.{name}" for name in ("child", "pipe", "program", "splitter")}
    assert not (ours | {"shlex"}) & set(modules)
