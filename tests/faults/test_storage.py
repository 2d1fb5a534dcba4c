"""Disks that are full, read-only, torn or rotated: labelling goes on, lines are whole."""

from __future__ import annotations

import errno
import json
import logging
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from edge_runtime.errors import ConfigError
from edge_runtime.records import LabelledFrame
from edge_runtime.sinks.files.jsonl import JsonlFileSink
from edge_runtime.sinks.files.record_file import Caps, RecordFile
from edge_runtime.sinks.thread import SinkThread
from tests.commands import need_mosquitto
from tests.daemon import EDGE_LABEL, REPOSITORY, Daemon, records_of, wait_until, write_config
from tests.disks import fill, small_disk
from tests.doubles.mosquitto import Broker
from tests.unit.test_records import record


def line(n: int, size: int = 100) -> bytes:
    head = f'{{"schema":"edge-label/1","seq":{n},"pad":"'
    return (head + "x" * (size - len(head) - 3) + '"}\n').encode()


def family(path: Path) -> list[Path]:
    """The file and its rotated siblings, oldest first."""
    return [
        *sorted(path.parent.glob(f"{path.stem}.0*{path.suffix}")),
        *([path] if path.exists() else []),
    ]


def numbers(path: Path) -> list[int]:
    """``seq`` of every line of the family; a line that does not parse fails the test."""
    return [
        json.loads(text)["seq"] for file in family(path) for text in file.read_text().splitlines()
    ]


class Failing:
    """The n-th call of an os function fails, once; all others are real.

    ``short``, for write: the n-th call stores half of its data and says so, the next one fails, as
    a full disk does.
    """

    def __init__(
        self, monkeypatch: pytest.MonkeyPatch, call: str, n: int, code: int, short: bool
    ) -> None:
        self._real: Callable[..., object] = getattr(os, call)
        self._n = n
        self._error = OSError(code, os.strerror(code))
        self._short = short
        self.failed = False
        monkeypatch.setattr(os, call, self)

    def __call__(self, *args: object, **kwargs: object) -> object:
        self._n -= 1
        if self._n == 0 and self._short:
            fd, data = args
            return self._real(fd, bytes(data)[: len(data) // 2])
        if self._n == -self._short:
            self.failed = True
            raise self._error
        return self._real(*args, **kwargs)


@pytest.fixture
def tmpfs(tmp_path: Path) -> Iterator[Path]:
    """A real file system of 256 kB."""
    with small_disk(tmp_path / "tmpfs", "256k") as place:
        yield place


@pytest.mark.fault("S1")
@pytest.mark.parametrize("size", [100, 900, 4096])
def test_the_cap_holds_after_every_line_and_the_oldest_goes_first(tmp_path: Path, size: int):
    path = tmp_path / "run.jsonl"
    store = RecordFile(path, Caps(total=50_000, rotate=10_000))
    for n in range(1000):
        store.append(line(n, size))
        assert sum(file.stat().st_size for file in family(path)) <= 50_000
    kept = numbers(path)
    assert kept == list(range(kept[0], 1000))
    assert len(kept) * size > 30_000
    assert store.deleted > 0
    store.close()


@pytest.mark.fault("S1")
def test_an_old_file_over_the_cap_is_brought_under_it(tmp_path: Path):
    path = tmp_path / "run.jsonl"
    path.write_bytes(b"".join(line(n) for n in range(1000)))
    store = RecordFile(path, Caps(total=20_000, rotate=5_000))
    store.append(line(1000))
    store.close()
    assert sum(file.stat().st_size for file in family(path)) <= 20_000
    assert numbers(path) == [1000]


@pytest.mark.fault("S1")
def test_a_disk_filled_by_others_costs_the_oldest_records_then_recovers(tmpfs: Path):
    path = tmpfs / "run.jsonl"
    store = RecordFile(path, Caps(total=200_000, rotate=20_000))
    for n in range(1000):
        store.append(line(n))
    fill(tmpfs / "others")
    before = store.deleted
    for n in range(1000, 1400):
        store.append(line(n))
    assert store.deleted > before
    kept = numbers(path)
    assert kept == list(range(kept[0], 1400))
    store.close()


@pytest.mark.fault("S1")
def test_a_full_disk_stops_no_label_is_counted_and_recovers(
    tmpfs: Path, tmp_path: Path, tiny_bundle: Path
):
    output = tmpfs / "run.jsonl"
    others = tmpfs / "others"
    stdout = tmp_path / "stdout"
    fill(others)
    file = write_config(
        tmp_path / "c.yaml", tiny_bundle, output={"file": str(output), "stdout": True}
    )
    with stdout.open("wb") as stream, Daemon(tmp_path, "--config", file, stdout=stream) as daemon:
        wait_until(lambda: "No space left" in daemon.log)
        seen = len(records_of(stdout))
        wait_until(lambda: len(records_of(stdout)) > seen + 20)
        assert records_of(stdout)[-1]["lost"] > 0
        others.unlink()
        wait_until(lambda: records_of(output))
        assert daemon.stop() == 0
    assert daemon.log.count("No space left") == 1
    assert [r["seq"] for r in records_of(stdout)] == list(range(len(records_of(stdout))))
    kept = numbers(output)
    assert kept == sorted(set(kept))


@pytest.mark.fault("S1")
def test_stdout_on_a_full_device_is_no_crash(tmp_path: Path, tiny_bundle: Path):
    command = [
        *EDGE_LABEL,
        "--camera",
        "demo",
        "--bundle",
        str(tiny_bundle),
        "--labels",
        "colours",
        "--frames",
        "5",
    ]
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(
            command, stdout=full, stderr=subprocess.PIPE, text=True, cwd=REPOSITORY, timeout=30
        )
    assert done.returncode == 0
    assert "5 records lost" in done.stderr


@pytest.mark.fault("S5")
def test_a_read_only_disk_costs_the_file_and_nothing_else(
    tmpfs: Path, tmp_path: Path, tiny_bundle: Path
):
    output, stdout = tmpfs / "run.jsonl", tmp_path / "stdout"
    file = write_config(
        tmp_path / "c.yaml", tiny_bundle, output={"file": str(output), "stdout": True}
    )
    subprocess.run(["mount", "-o", "remount,ro", tmpfs], check=True)
    with stdout.open("wb") as stream, Daemon(tmp_path, "--config", file, stdout=stream) as daemon:
        wait_until(lambda: len(records_of(stdout)) > 20)
        assert records_of(stdout)[-1]["lost"] > 0
        assert not output.exists()
        subprocess.run(["mount", "-o", "remount,rw", tmpfs], check=True)
        wait_until(lambda: records_of(output))
        assert daemon.stop() == 0
    assert "Read-only file system" in daemon.log


@pytest.mark.fault("S5")
def test_labels_still_reach_mqtt_from_a_read_only_disk(
    tmpfs: Path, tmp_path: Path, tiny_bundle: Path
):
    need_mosquitto()
    subprocess.run(["mount", "-o", "remount,ro", tmpfs], check=True)
    with Broker(tmp_path) as broker:
        mqtt = {"host": "127.0.0.1", "port": broker.port, "device": "cam", "every_s": 0.1}
        file = write_config(
            tmp_path / "c.yaml", tiny_bundle, output={"file": str(tmpfs / "run.jsonl")}, mqtt=mqtt
        )
        with Daemon(tmp_path, "--config", file) as daemon:
            daemon.wait_for("READY=1")

            def state() -> dict[str, Any]:
                (_, payload), *_ = broker.listen(1, topic="edge-label/cam/state", timeout_s=60)
                return json.loads(payload)

            # The first state may leave before the disk has refused a line.
            first = wait_until(lambda: now if "lost" in (now := state()) else None)
            last = wait_until(lambda: now if (now := state())["lost"] > first["lost"] else None)
            assert daemon.stop() == 0
    assert last["labels"][0]["name"] in ("red", "green", "blue")


@pytest.mark.fault("S6")
def test_a_file_rotated_by_others_loses_no_record(tmp_path: Path):
    path = tmp_path / "run.jsonl"
    store = RecordFile(path, Caps())
    for n in range(1000):
        if n % 100 == 99:
            path.rename(tmp_path / f"run.jsonl.{n}")
        store.append(line(n))
    store.close()
    parts = [*sorted(tmp_path.glob("run.jsonl.*"), key=lambda p: int(p.suffix[1:])), path]
    assert [json.loads(t)["seq"] for p in parts for t in p.read_text().splitlines()] == list(
        range(1000)
    )


@pytest.mark.fault("S6")
def test_rotation_by_time_needs_no_wall_clock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    now = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    path = tmp_path / "run.jsonl"
    store = RecordFile(path, Caps(rotate_s=60))
    for n in range(10):
        store.append(line(n))
        now[0] += 25
    store.close()
    assert len(family(path)) == 4
    assert numbers(path) == list(range(10))


def test_a_finite_run_is_one_file_without_a_cap(tmp_path: Path):
    path = tmp_path / "run.jsonl"
    store = RecordFile(path, None)
    for n in range(500):
        store.append(line(n))
    store.close()
    assert family(path) == [path]


def test_a_finite_run_on_a_full_disk_deletes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    older = tmp_path / "run.000001.jsonl"
    older.write_bytes(line(0))
    store = RecordFile(tmp_path / "run.jsonl", None)
    with monkeypatch.context() as patch:
        Failing(patch, "write", 1, errno.ENOSPC, short=False)
        with pytest.raises(OSError, match="No space left"):
            store.append(line(1))
    store.close()
    assert older.exists()


@pytest.mark.fault("S1")
def test_a_file_without_a_suffix_keeps_its_cap_too(tmp_path: Path):
    path = tmp_path / "records"
    store = RecordFile(path, Caps(total=4000, rotate=1000))
    for n in range(100):
        store.append(line(n))
    store.close()
    assert len(family(path)) > 2
    kept = numbers(path)
    assert kept == list(range(kept[0], 100))
    assert sum(file.stat().st_size for file in family(path)) <= 4000


def test_records_can_go_to_a_pipe(tmp_path: Path):
    path = tmp_path / "pipe"
    os.mkfifo(path)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    store = RecordFile(path, Caps())
    store.append(line(0))
    store.append(line(1))
    store.close()
    assert os.read(reader, 4096) == line(0) + line(1)
    os.close(reader)


@pytest.mark.parametrize(
    ("place", "advice"), [("none/run.jsonl", "make the folder"), (".", "choose another file")]
)
def test_a_place_that_can_never_be_written_is_a_configuration_error(
    tmp_path: Path, place: str, advice: str
):
    with pytest.raises(ConfigError, match=advice):
        RecordFile(tmp_path / place, Caps())


def test_what_the_cap_cost_is_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    sink = JsonlFileSink(tmp_path / "run.jsonl", Caps(total=4000, rotate=1500))
    thread = SinkThread(sink, lossless=True)
    with caplog.at_level(logging.WARNING):
        for n in range(50):
            thread.put(LabelledFrame(record(seq=n)))
        thread.close()
    assert sink.deleted > 5
    assert caplog.text == ""
