"""Whatever the three standard streams are: one line or none, and the records whole.

Every verb, as a user starts it.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from edge_runtime.cli import main
from edge_runtime.system import streams
from tests.commands import need
from tests.daemon import EDGE_LABEL, REPOSITORY, records_of
from tests.unit.test_records import record

# A name that a terminal would obey, with letters that ASCII does not have.
PICTURE = "straße\x1b[31m\x9b.png"
FRAMES = 5
BROKEN = "this is a bug", "Traceback", "Exception ignored"


@pytest.fixture
def folder(tiny_bundle: Path, tmp_path: Path) -> Path:
    """A place to stand in: the tiny bundle, a picture, a record file."""
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    Image.new("RGB", (64, 64), "red").save(pictures / PICTURE)
    Image.new("RGB", (64, 64), "blue").save(pictures / "ü\x1b[2J.png")
    (tmp_path / "old.jsonl").write_text(f"{record(seq=0).to_json()}\n{record(seq=1).to_json()}\n")
    (tmp_path / "mine.yaml").write_text("labels: [Straße]\n", encoding="utf-8")
    return tmp_path


def command(verb: str, folder: Path, *more: str) -> list[str]:
    model = ["--bundle", f"{folder}/tiny", "--labels", "colours"]
    source = ["--camera", "demo", "--frames", str(FRAMES)]
    arguments = {
        "run": ["run", *source, *model],
        "run --output": ["run", *source, *model, "--output", f"{folder}/run.jsonl"],
        "once": ["once", f"{folder}/pictures/ü\x1b[2J.png", *model],
        "once --output": ["once", f"{folder}/pictures", *model, "--output", f"{folder}/once.csv"],
        "bench": ["bench", "--seconds", "0.2", *model],
        "doctor": ["doctor", "--bundle", f"{folder}/tiny"],
        "labels": ["labels", "list", f"{folder}/mine.yaml", *model[:2]],
        "mistake": ["labels", "list", "none", *model[:2]],
        "bundle": ["bundle", "info", f"{folder}/tiny", "--json"],
        "report": ["report", f"{folder}/old.jsonl", "--output", f"{folder}/page.html"],
        "--help": ["--help"],
    }
    return [*EDGE_LABEL, *arguments[verb], *more]


def closing(*numbers: int) -> Callable[[], dict[str, Any]]:
    def close() -> None:
        for number in numbers:
            os.close(number)

    return lambda: {"preexec_fn": close}


def broken_pipe() -> dict[str, Any]:
    read, write = os.pipe()
    os.close(read)
    return {"stdout": write}


def full(stream: str) -> Callable[[], dict[str, Any]]:
    return lambda: {stream: os.open("/dev/full", os.O_WRONLY)}


STREAMS: dict[str, Callable[[], dict[str, Any]]] = {
    "<&-": closing(0),
    ">&-": closing(1),
    "2>&-": closing(2),
    "<&- >&- 2>&-": closing(0, 1, 2),
    ">/dev/full": full("stdout"),
    "2>/dev/full": full("stderr"),
    "| true": broken_pipe,
    "PYTHONIOENCODING=ascii": lambda: {"env": {**os.environ, "PYTHONIOENCODING": "ascii"}},
    "LC_ALL=C": lambda: {"env": {**os.environ, "LC_ALL": "C"}},
}
VERBS = (
    "mistake",
    "labels",
    "run",
    "run --output",
    "once",
    "once --output",
    "bench",
    "doctor",
    "bundle",
    "report",
    "--help",
)
SILENT = ("run --output", "once --output")  # they print nothing on standard output


def expected_codes(verb: str, streams: str) -> tuple[int, ...]:
    if verb == "mistake":
        return (66,)
    good = (0, 1) if verb == "doctor" else (0,)
    if verb in SILENT:
        return good
    if ">&-" in streams.replace("2>&-", ""):
        return (78,) if verb == "run" else (0,) if verb == "--help" else (65,)
    if streams == ">/dev/full" and verb not in (
        "run",
        "--help",
    ):  # a run goes on, and counts what it loses
        return (65,)
    return (*good, 0) if streams == "| true" else good


@pytest.mark.fault("P9")
@pytest.mark.parametrize("streams", STREAMS)
@pytest.mark.parametrize("verb", VERBS)
def test_whatever_the_streams_are_it_is_one_line_or_none(folder: Path, verb: str, streams: str):
    how = {
        "stdout": subprocess.PIPE,
        "stderr": subprocess.PIPE,
        "cwd": REPOSITORY,
        **STREAMS[streams](),
    }
    done = subprocess.run(command(verb, folder), timeout=120, check=False, **how)
    for stream in ("stdout", "stderr"):
        if isinstance(how[stream], int) and how[stream] >= 0:
            os.close(how[stream])
    said = (done.stderr or b"").decode()
    assert done.returncode in expected_codes(verb, streams), said
    assert not any(word in said for word in BROKEN), said
    lines = said.splitlines()
    assert all(line.startswith("edge-label: ") for line in lines), said
    assert sum("standard output" in line or "stdout" in line for line in lines) <= 1, said
    if not verb.startswith("run"):
        assert len(lines) <= 1, said
    outcome(folder, verb, streams, done.stdout or b"")


def outcome(folder: Path, verb: str, streams: str, printed: bytes) -> None:
    """What the verb writes is there, and whole."""
    assert b"\x1b" not in printed
    prints_to_stdout = ">" not in streams.replace("2>", "")
    if verb == "run --output":
        assert [read["seq"] for read in records_of(folder / "run.jsonl")] == list(range(FRAMES))
    elif verb == "once --output":
        check_table((folder / "once.csv").read_bytes())
    elif verb == "report" and prints_to_stdout:
        assert (folder / "page.html").read_text().endswith("</html>\n")
    elif printed:
        check_printed(verb, printed.decode())


def check_table(table: bytes) -> None:
    assert table.count(b"\n") == 3
    assert table.endswith(b"\n")
    assert b"\x1b" not in table
    assert b"\\x1b[31m" in table


def check_printed(verb: str, text: str) -> None:
    if verb in ("run", "once"):
        records = [json.loads(line) for line in text.splitlines()]
        assert len(records) == (FRAMES if verb == "run" else 1)
        if verb == "once":
            assert records[0]["file"].endswith("ü\x1b[2J.png")
    elif verb == "bundle":
        assert json.loads(text)["name"] == "tiny"


@pytest.mark.fault("P13")
def test_a_hostile_file_name_is_shown_and_never_obeyed(folder: Path):
    """On a terminal, in a log line, in JSON and in a table; and --resume knows it again."""
    (folder / "pictures" / "broken\x1b]0;owned\x07.png").write_bytes(b"no picture")
    shown = subprocess.run(
        [
            need("script", "bsdutils"),
            "-qec",
            " ".join(map(quoted, command("once", folder))),
            "/dev/null",
        ],
        capture_output=True,
        cwd=REPOSITORY,
        check=True,
    )
    assert b"\x1b[2J" not in shown.stdout
    assert b"\\x1b[2J" in shown.stdout
    table = folder / "on\x1b[31mce.csv"
    more = ("--resume", "--output", str(table))
    for _ in range(2):
        done = subprocess.run(
            command("once --output", folder, *more), capture_output=True, cwd=REPOSITORY, check=True
        )
        assert b"\x1b" not in done.stderr
        assert b"\x07" not in done.stderr
    assert table.read_bytes().count(b"\n") == 3
    assert b"\x1b" not in table.read_bytes()


def quoted(text: str) -> str:
    return "'" + text.replace("'", "'\\''") + "'"


@pytest.mark.fault("P9")
def test_a_closed_descriptor_is_never_given_to_a_file(folder: Path):
    """With 2 closed, the record file would get it, and with it what a library complains about."""
    code = (
        "import os, sys; from edge_runtime.system import streams\n"
        "streams.mend(); print(os.open('/dev/null', 0))"
    )
    command = [EDGE_LABEL[0], "-c", code]
    done = subprocess.run(
        command, preexec_fn=closing(0, 2)()["preexec_fn"], stdout=subprocess.PIPE, cwd=REPOSITORY
    )
    assert int(done.stdout) > 2


@pytest.mark.fault("P9")
def test_help_that_nobody_reads_is_no_traceback_on_an_older_python(monkeypatch: pytest.MonkeyPatch):
    """Debian 12's Python 3.11.2 lets argparse raise what later ones keep to themselves."""

    def raises(*_: object) -> None:
        raise BrokenPipeError

    monkeypatch.setattr(argparse.ArgumentParser, "_print_message", raises)
    monkeypatch.setattr(streams, "silence", lambda: None)  # pytest needs its own
    with pytest.raises(SystemExit) as ended:
        main(["--help"])
    assert ended.value.code == 0
