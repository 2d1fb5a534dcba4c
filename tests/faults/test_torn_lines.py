"""Short writes, kills and failing calls: a record file always ends with a whole line."""

from __future__ import annotations

import errno
import json
import os
import random
import resource
import signal
import time
from pathlib import Path

import pytest

from edge_runtime.sinks.files.record_file import Caps, RecordFile
from tests.daemon import Daemon, records_of, wait_until, write_config
from tests.faults.test_storage import Failing, family, line, numbers

KILLS = int(os.environ.get("EDGE_LABEL_KILLS", "4"))


@pytest.mark.fault("S2")
def test_a_short_write_leaves_no_half_line(tmp_path: Path):
    """RLIMIT_FSIZE lets part of a line through, then refuses: a real short write in a process."""
    path = tmp_path / "run.jsonl"
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (1050, resource.RLIM_INFINITY))
            store = RecordFile(path, None)
            for n in range(12):
                try:
                    store.append(line(n))
                except OSError as error:
                    code = 0 if error.errno == errno.EFBIG and n >= 10 else 2
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert path.stat().st_size == 1000
    assert numbers(path) == list(range(10))


@pytest.mark.fault("S2")
@pytest.mark.parametrize(
    "torn", [b"{", b'{"schema":"edge-la', line(9)[:-1], b'{"schema":"edge' + bytes(600), bytes(512)]
)
def test_a_torn_last_line_is_cut_off_at_the_start(tmp_path: Path, torn: bytes):
    path = tmp_path / "run.jsonl"
    path.write_bytes(line(0) + line(1) + torn)
    store = RecordFile(path, Caps())
    store.append(line(2))
    store.close()
    assert numbers(path) == [0, 1, 2]


@pytest.mark.fault("S2")
def test_a_tail_that_is_not_ours_is_never_cut(tmp_path: Path):
    path = tmp_path / "notes.txt"
    path.write_text("a shopping list without an end")
    store = RecordFile(path, Caps())
    store.append(line(0))
    store.close()
    assert path.read_text().startswith("a shopping list without an end\n{")


def _write_for_ever(path: Path) -> None:
    """On a disk that takes 8 bytes at a time, so that many kills meet half a line."""
    whole = os.write
    os.write = lambda fd, data: whole(fd, bytes(data)[:8])
    store = RecordFile(path, Caps(total=60_000, rotate=15_000))
    n = (
        numbers(path)[-1] + 1
        if path.exists() and path.stat().st_size and path.read_bytes().endswith(b"\n")
        else 0
    )
    while True:
        store.append(line(n, 300))
        n += 1


def _mark(path: Path) -> tuple[int, int] | None:
    """Changes with every write to the file, and when it is rotated."""
    try:
        facts = path.stat()
    except FileNotFoundError:
        return None
    return facts.st_ino, facts.st_size


@pytest.mark.fault("S3")
def test_two_hundred_kills_of_the_writer_tear_at_most_the_last_line(tmp_path: Path):
    path = tmp_path / "run.jsonl"
    rng = random.Random(0)
    lines = torn = 0
    for _ in range(200):
        before = _mark(path)
        pid = os.fork()
        if pid == 0:
            try:
                _write_for_ever(path)
            finally:
                os._exit(1)
        deadline = time.monotonic() + 30
        while _mark(path) == before and time.monotonic() < deadline:
            time.sleep(0.0005)
        time.sleep(rng.uniform(0.0, 0.02))  # the moment of the kill is the fault
        os.kill(pid, signal.SIGKILL)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGKILL
        torn += path.exists() and path.stat().st_size > 0 and not path.read_bytes().endswith(b"\n")
        for file in family(path):
            whole = [
                text for text in file.read_text().splitlines(keepends=True) if text.endswith("\n")
            ]
            lines += len([json.loads(text) for text in whole])
            assert len(whole) >= len(file.read_text().splitlines()) - (file == path)
    assert lines > 10_000
    assert torn >= 3
    print(f"200 kills, {torn} of them inside a line, {lines} lines read back, all whole")


@pytest.mark.fault("S3")
def test_the_daemon_killed_at_random_loses_at_most_its_last_record(
    tmp_path: Path, tiny_bundle: Path
):
    """EDGE_LABEL_KILLS=200 is the long form."""
    output = tmp_path / "run.jsonl"
    file = write_config(
        tmp_path / "c.yaml", tiny_bundle, camera={"fps": 240}, output={"file": str(output)}
    )
    rng = random.Random(1)
    runs = 0
    for _ in range(KILLS):
        before = len(records_of(output))
        with Daemon(tmp_path, "--config", file) as daemon:
            wait_until(lambda before=before: len(records_of(output)) > before)
            time.sleep(rng.uniform(0.0, 0.3))  # the moment of the kill is the fault
            daemon.process.kill()
            daemon.process.wait(10)
        text = output.read_text()
        whole = [json.loads(part) for part in text.splitlines(keepends=True) if part.endswith("\n")]
        runs += sum(r["seq"] == 0 for r in whole[before:])
    assert runs == KILLS
    print(f"{KILLS} kills of the daemon, {len(records_of(output))} lines, all whole")


@pytest.mark.fault("S4")
@pytest.mark.parametrize(
    ("call", "code", "short"),
    [
        ("write", errno.EIO, False),
        ("write", errno.ENOSPC, True),
        ("fdatasync", errno.EIO, False),
        ("rename", errno.EIO, False),
        ("open", errno.EMFILE, False),
        ("ftruncate", errno.EIO, False),
        ("unlink", errno.EROFS, False),
    ],
)
def test_the_nth_failing_call_corrupts_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str, code: int, short: bool
):
    hits = 0
    for n in range(1, 51):
        path = tmp_path / f"{n}" / "run.jsonl"
        path.parent.mkdir()
        path.write_bytes(line(0) + b'{"schema":"torn')
        with monkeypatch.context() as patch:
            # 40,000 real ones take minutes and show nothing.
            patch.setattr(os, "fdatasync", lambda fd: None)
            store = RecordFile(path, Caps(total=4000, rotate=800, sync_s=0))
            failing = Failing(patch, call, n, code, short)
            lost = since = seq = 0
            # Stop soon after the failure: later its traces are deleted to keep the cap.
            while seq < 119 and since < 5:
                seq += 1
                try:
                    store.append(line(seq))
                except OSError:
                    lost += 1
                since += failing.failed
            hits += failing.failed
            store.close()
        kept = numbers(path)
        assert kept == sorted(set(kept))
        assert kept[-1] == seq
        assert lost <= 1
        assert sum(file.stat().st_size for file in family(path)) <= 4000 + 100
    # The other calls come less often than fifty times.
    assert hits >= (50 if call == "write" else 1)
