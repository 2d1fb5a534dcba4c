"""Two programs never write to one file or spool: the second one is told who holds it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest

from edge_runtime.errors import ConfigError
from edge_runtime.sinks.files.record_file import Caps, RecordFile
from edge_runtime.sinks.triggers.spool import Spool
from edge_runtime.system import claims
from tests.daemon import EDGE_LABEL, REPOSITORY, wait_until, write_config
from tests.faults.test_storage import family, line, numbers
from tests.unit.sinks.triggers.test_spool import jpeg, opened, put

DEFAULT = Caps()  # rotate_mb: 50, max_mb: 1000


HOLDER = """\
import sys, time
from pathlib import Path
from edge_runtime.sinks.files.record_file import Caps, RecordFile
from edge_runtime.sinks.triggers.spool import Spool
path = Path(sys.argv[1])
held = Spool(path, 1_000_000) if path.is_dir() else RecordFile(path, Caps(rotate=int(sys.argv[2])))
n = 0
print("holding", flush=True)
while True:
    if not path.is_dir():
        n += 1
        held.append(b'{"schema":"edge-label/1","seq":%d,"by":"holder"}\\n' % n)
    time.sleep(0.0002 if n < 5_000 else 1)
"""


@contextmanager
def holder(path: Path, rotate: int = 50_000_000) -> Iterator[int]:
    """Another process that writes to ``path``; its id."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, path, str(rotate)],
        stdout=subprocess.PIPE,
        cwd=REPOSITORY,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "holding\n"
        try:
            yield process.pid
        finally:
            process.kill()


@pytest.mark.fault("S12")
@pytest.mark.parametrize("what", ["output.file", "triggers.spool"])
def test_a_second_program_on_the_same_file_or_spool_is_refused_with_78_and_the_others_id(
    tmp_path: Path, tiny_bundle: Path, what: str
):
    path = tmp_path / "spool" if what == "triggers.spool" else tmp_path / "run.jsonl"
    rules = [{"name": "r", "when": {"label": "red"}}]
    if what == "triggers.spool":
        path.mkdir()
        sections = {"triggers": {"spool": str(path), "rules": rules}}
    else:
        sections = {"output": {"file": str(path)}}
    file = write_config(tmp_path / "c.yaml", tiny_bundle, **sections)

    command = [*EDGE_LABEL, "--config", file, "--frames", "3"]
    second = partial(
        subprocess.run, command, capture_output=True, text=True, cwd=REPOSITORY, timeout=60
    )

    with holder(path) as pid:
        done = second()
        name = Path(f"/proc/{pid}/comm").read_text().strip()
        assert done.returncode == 78
        assert done.stderr == (
            f"edge-label: {path}: process {pid} ({name}) writes there already; "
            f"stop that, or give another {what}\n"
        )

    assert second().returncode == 0


@pytest.mark.fault("S12")
def test_of_two_programs_that_append_and_rotate_one_loses_nothing_and_the_other_knows(
    tmp_path: Path,
):
    """Before, 300,000 appends succeeded and 36,563 were found."""
    path = tmp_path / "run.jsonl"
    with holder(path, rotate=1_000):
        wait_until(lambda: len(family(path)) > 20)
        for _ in range(200):  # whatever moment of its rotation this meets
            with pytest.raises((ConfigError, OSError), match="writes there already"):
                RecordFile(path, DEFAULT).append(line(0))

    stored = [json.loads(text) for file in family(path) for text in file.read_text().splitlines()]
    assert [r["seq"] for r in stored] == list(range(1, len(stored) + 1))
    assert {r["by"] for r in stored} == {"holder"}


@pytest.mark.fault("S12")
def test_a_file_that_was_rotated_between_opening_and_claiming_is_not_taken_for_the_live_one(
    tmp_path, monkeypatch
):
    path, older = tmp_path / "run.jsonl", tmp_path / "run.000001.jsonl"
    path.write_bytes(line(0))

    def late(fd: int) -> None:
        if not older.exists():
            path.rename(older)
            path.write_bytes(line(1))
        claims.claim(fd)

    monkeypatch.setattr("edge_runtime.sinks.files.claimed.claim", late)
    store = RecordFile(path, DEFAULT)

    assert os.path.samestat(os.fstat(store._fd), path.stat())
    store.close()


KILLED = """\
import ctypes, platform, sys, threading, time
from pathlib import Path
from edge_runtime.sinks.files.record_file import Caps, RecordFile
held = RecordFile(Path(sys.argv[1]), Caps())
threading.Thread(target=time.sleep, args=(100,)).start()
print("holding", flush=True)
exit_thread = {"x86_64": 60, "aarch64": 93}[platform.machine()]
ctypes.CDLL(None).syscall(exit_thread, 0)
"""


@pytest.mark.fault("S12")
def test_a_killed_process_that_a_driver_keeps_from_ending_keeps_nobody_out(tmp_path: Path):
    """Its first thread is gone and its files are open: another thread hangs in a driver."""
    path = tmp_path / "run.jsonl"
    command = [sys.executable, "-c", KILLED, path]

    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=REPOSITORY, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "holding\n"
        wait_until(lambda: "\nState:\tZ" in Path(f"/proc/{process.pid}/status").read_text())
        try:
            store = RecordFile(path, DEFAULT)
            store.append(line(0))
            store.close()
        finally:
            process.kill()

    assert numbers(path) == [0]


@pytest.mark.fault("S12")
def test_a_reload_may_hand_the_file_from_one_sink_to_the_next(tmp_path: Path):
    path = tmp_path / "run.jsonl"
    old = RecordFile(path, DEFAULT)
    old.append(line(0))
    new = RecordFile(path, DEFAULT)

    with pytest.raises(BlockingIOError):
        new.append(line(1))  # while the old one still has it
    old.append(line(1))
    old.close()
    new.append(line(2))
    new.close()
    assert numbers(path) == [0, 1, 2]

    spool = opened(tmp_path / "spool")
    another = Spool(tmp_path / "spool", 10_000)

    with pytest.raises(BlockingIOError):
        another.open()
    spool.close()
    another.open()
    assert put(another, jpeg(100))
    another.close()


@pytest.mark.fault("S12")
def test_what_was_let_go_is_remembered_no_more(tmp_path: Path):
    before = len(claims._mine)
    store = RecordFile(tmp_path / "run.jsonl", Caps(rotate=1_000))
    for n in range(100):
        store.append(line(n))
    store.close()
    assert len(claims._mine) == before
