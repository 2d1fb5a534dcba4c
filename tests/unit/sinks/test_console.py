"""A person at a terminal gets one line that keeps changing, and a terminal that stays whole."""

from __future__ import annotations

import io
import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

from edge_runtime.records import LabelledFrame, LabelScore
from edge_runtime.sinks import console
from edge_runtime.sinks.console import ConsoleSink, live_line
from tests.paths import REPOSITORY
from tests.unit.test_records import record


def of(name: str, on: bool = True):
    return record(labels=(LabelScore(name, 0.62, 0.2, on),), state="ok" if on else "unknown")


def test_the_line_says_what_is_on_or_why_nothing_is():
    assert live_line(of("cat")).endswith("cat 0.62")
    assert live_line(of("cat", on=False)).endswith("unknown cat? 0.62")
    away = record(labels=(), state="stale", camera_state="no_device")
    assert live_line(away).endswith("MB  no picture, camera no device")


def test_a_person_gets_one_line_rewritten_at_most_ten_times_a_second(
    monkeypatch: pytest.MonkeyPatch,
):
    screen, clock = io.StringIO(), iter(i / 100 for i in range(100))
    monkeypatch.setattr(sys, "stdout", screen)
    monkeypatch.setattr(console.time, "monotonic", lambda: next(clock))
    sink = ConsoleSink()
    for _ in range(100):
        sink.write(LabelledFrame(of("cat")))
    sink.close()
    assert 9 <= screen.getvalue().count("\r\x1b[K") <= 10
    assert screen.getvalue().count("\n") == 1, "only the end begins a new line"


def test_a_log_line_takes_the_place_of_the_live_line(tiny_bundle: Path):
    """On a real terminal; in a file there is nothing to clear."""
    ours, theirs = pty.openpty()
    command = [
        sys.executable,
        "-m",
        "edge_runtime",
        "--camera",
        "demo",
        "--bundle",
        tiny_bundle,
        "--labels",
        "colours",
    ]
    with subprocess.Popen(
        [*command, "--frames", "5"], stdout=theirs, stderr=theirs, cwd=REPOSITORY
    ) as process:
        os.close(theirs)
        screen = b""
        try:
            while part := os.read(ours, 4096):
                screen += part
        except OSError:  # the other side is closed
            pass
    os.close(ours)
    assert process.returncode == 0
    assert screen.count(b"edge-label: ") == screen.count(b"\r\x1b[Kedge-label: ") >= 2


def test_a_run_ends_with_its_terminal(tiny_bundle: Path):
    """Else it would hold the camera for nobody."""
    ours, theirs = pty.openpty()
    command = [
        sys.executable,
        "-m",
        "edge_runtime",
        "--camera",
        "demo",
        "--bundle",
        tiny_bundle,
        "--labels",
        "colours",
    ]
    with subprocess.Popen(
        command, stdout=theirs, stderr=subprocess.PIPE, cwd=REPOSITORY
    ) as process:
        os.close(theirs)
        assert os.read(ours, 1)
        os.close(ours)
        try:
            process.wait(60)
        finally:
            process.kill()
        assert process.stderr is not None
        assert b"frames in" in process.stderr.read()


def test_a_line_is_never_wider_than_the_terminal(monkeypatch: pytest.MonkeyPatch):
    screen = io.StringIO()
    monkeypatch.setattr(sys, "stdout", screen)
    monkeypatch.setenv("COLUMNS", "40")
    ConsoleSink().write(LabelledFrame(of("a very long label " * 20)))
    assert len(screen.getvalue().removeprefix("\r\x1b[K")) == 39


def test_a_label_cannot_steer_the_terminal():
    assert "\x1b" not in live_line(of("\x1b[2Jgone"))
