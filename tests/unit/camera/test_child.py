"""A program is heard, and it ends with everything that it started."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from edge_runtime.camera import child
from edge_runtime.camera.child import Child
from tests.daemon import is_running, wait_until


def sh(script: str, *arguments: str) -> Child:
    return Child(["/bin/sh", "-c", script, *arguments])


@pytest.mark.fault("C21")
def test_all_that_a_program_started_ends_with_it_and_no_zombie_is_left(tmp_path: Path):
    pids = tmp_path / "pids"
    program = sh(f"sleep 1000 & echo $! $$ > {pids}; wait")
    wait_until(lambda: pids.exists() and pids.read_text().split()[1:])
    inner, outer = map(int, pids.read_text().split())
    program.kill()
    wait_until(lambda: not is_running(inner))
    with pytest.raises(ProcessLookupError):
        os.kill(outer, 0)  # a zombie would still be there


@pytest.mark.fault("C21")
def test_what_a_program_left_behind_ends_too(tmp_path: Path):
    pids = tmp_path / "pids"
    program = sh(f"sleep 1000 & echo $! > {pids}")
    assert program.exit_status(30) == 0
    inner = int(pids.read_text())
    assert is_running(inner)
    program.kill()
    wait_until(lambda: not is_running(inner))


@pytest.mark.fault("C21")
def test_a_program_that_ignores_sigterm_is_killed(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(child, "GRACE_S", 0.2)
    program = sh("trap '' TERM; echo ready; while :; do sleep 0.1; done")
    assert os.read(program.stdout, 100) == b"ready\n"
    program.kill()
    assert program._process.returncode == -signal.SIGKILL


def test_a_program_may_release_its_camera_before_it_is_killed(tmp_path: Path):
    released = tmp_path / "released"
    program = sh(
        f"trap 'echo yes > {released}; exit 0' TERM; echo ready; while :; do sleep 0.1; done"
    )
    assert os.read(program.stdout, 100) == b"ready\n"
    program.kill()
    assert released.read_text() == "yes\n"


@pytest.mark.fault("C19")
def test_its_last_words_are_the_last_line_that_is_not_empty():
    program = sh(
        "echo first >&2; printf 'working 1\\rERROR: no cameras available\\n\\n' >&2; exit 3"
    )
    assert program.exit_status(30) == 3
    assert program.last_words() == "ERROR: no cameras available"
    program.kill()


@pytest.mark.fault("K2")
def test_its_last_words_hold_no_password_of_its_arguments():
    script = 'echo "cannot open $1 with the secret $3" >&2; exit 1'
    program = sh(script, "grab", "rtsp://me:hunter2@h/x", "--token", "hunter3")
    assert program.exit_status(30) == 1
    assert program.last_words() == "cannot open rtsp://***@h/x with the secret ***"
    program.kill()


@pytest.mark.fault("C19")
def test_a_program_that_says_too_much_is_not_kept_waiting():
    """Its standard error is a pipe; nobody else reads it."""
    program = sh("yes complaint | head -c 3000000 >&2; echo done >&2; exit 4")
    seen = None
    while seen is None:
        program.listen()
        seen = program.exit_status(0.01)
    assert seen == 4
    assert len(program._tail) <= 2048
    program.kill()


def test_a_signal_that_ends_it_is_a_negative_status():
    program = sh("kill -SEGV $$")
    assert program.exit_status(30) == -signal.SIGSEGV
    program.kill()


def test_a_program_of_another_user_ends_when_its_output_is_closed(monkeypatch: pytest.MonkeyPatch):
    """As one that sudo runs: it may not be killed, but it is not waited for for ever."""

    def not_allowed(_group: int, _number: int) -> None:
        raise PermissionError

    monkeypatch.setattr(os, "killpg", not_allowed)
    monkeypatch.setattr(child, "GRACE_S", 0.1)
    program = Child(["/usr/bin/yes"])
    program.kill()
    assert program._process.returncode == -signal.SIGPIPE
