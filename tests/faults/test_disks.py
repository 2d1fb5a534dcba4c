"""Disks that are small, full, shared or cut off from power: what was seen last is there, and nothing is half."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from edge_runtime.camera.jpeg import JpegEncoder
from edge_runtime.config import CameraConfig, Condition, TriggerRule, TriggersConfig
from edge_runtime.daemon.parts import run_kind
from edge_runtime.errors import ConfigError
from edge_runtime.records import Frame, LabelledFrame
from edge_runtime.sinks.files import room
from edge_runtime.sinks.files.record_file import Caps, RecordFile
from edge_runtime.sinks.triggers.avi import AviWriter
from edge_runtime.sinks.triggers.rules import Rules, Task
from edge_runtime.sinks.triggers.sink import TriggerSink
from edge_runtime.sinks.triggers.spool import Spool
from edge_runtime.system import claims
from tests.daemon import EDGE_LABEL, REPOSITORY, Daemon, records_of, wait_until, write_config
from tests.disks import ext4_image, fill, mounted_image, small_disk
from tests.faults.test_storage import family, line, numbers
from tests.unit.sinks.triggers.test_spool import jpeg, opened, put
from tests.unit.test_records import record

DEFAULT = Caps()  # rotate_mb: 50, max_mb: 1000


@pytest.fixture(autouse=True)
def _nobody_else_gives_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "_keepers", [])
    monkeypatch.setattr(room, "_logged", False)


def video(path: Path, frames: int) -> Path:
    """Small pictures in the colours that the tiny bundle knows."""
    with path.open("wb") as stream:
        avi = AviWriter(stream)
        for i in range(frames):
            picture = np.zeros((32, 32, 3), np.uint8)
            picture[:, :, i // 10 % 3] = 255
            avi.add(bytes(cv2.imencode(".jpg", picture)[1]), i / 30)
        avi.finish()
    return path


# A cap that holds whenever the run does not end by itself


@pytest.mark.fault("S7")
def test_a_looped_file_keeps_its_byte_cap(tmp_path: Path, tiny_bundle: Path):
    output = tmp_path / "out" / "run.jsonl"
    output.parent.mkdir()
    looped = {"source": str(video(tmp_path / "v.avi", 30)), "loop": True}
    file = write_config(
        tmp_path / "c.yaml",
        tiny_bundle,
        camera=looped,
        output={"file": str(output), "max_mb": 2, "rotate_mb": 1},
    )
    with Daemon(tmp_path, "--config", file) as daemon:
        wait_until(lambda: [path for path in family(output) if ".000003." in path.name])
        for _ in range(20):
            assert (
                min(_bytes_in(output.parent) for _ in range(3)) <= 2e6
            )  # a listing may meet a file on its way out
            time.sleep(0.01)
        assert daemon.stop() == 0
    assert records_of(output)[-1]["deleted"] > 0


def _bytes_in(folder: Path) -> int:
    sizes = []
    for path in folder.iterdir():
        try:
            sizes.append(path.stat().st_size)
        except FileNotFoundError:
            continue
    return sum(sizes)


@pytest.mark.fault("S7")
def test_only_a_file_or_folder_that_is_read_once_goes_without_a_cap(tmp_path: Path):
    regular, fifo = tmp_path / "v.avi", tmp_path / "fifo.avi"
    regular.touch()
    os.mkfifo(fifo)
    replayed, camera = SimpleNamespace(live=False), SimpleNamespace(live=True)
    finite = {
        "file": run_kind(replayed, CameraConfig(source=str(regular))),
        "folder": run_kind(replayed, CameraConfig(source=str(tmp_path))),
        "looped": run_kind(replayed, CameraConfig(source=str(regular), loop=True)),
        "fifo": run_kind(replayed, CameraConfig(source=str(fifo))),
        "stream": run_kind(camera, CameraConfig(source="rtsp://camera/1")),
        "device": run_kind(camera, CameraConfig(source=str(regular))),
    }
    assert [name for name, (_, ends) in finite.items() if ends] == ["file", "folder"]


@pytest.mark.fault("S7")
def test_a_reload_from_a_file_to_a_loop_sets_the_cap(tmp_path: Path, tiny_bundle: Path):
    output = tmp_path / "out" / "run.jsonl"
    output.parent.mkdir()
    clip = str(video(tmp_path / "v.avi", 3000))
    once = {"source": clip, "realtime": True}  # it must not end before the reload
    small = {"file": str(output), "max_mb": 2, "rotate_mb": 1}
    file = write_config(tmp_path / "c.yaml", tiny_bundle, camera=once, output=small)
    with Daemon(tmp_path, "--config", file) as daemon:
        wait_until(lambda: records_of(output))
        write_config(file, tiny_bundle, camera={"source": clip, "loop": True}, output=small)
        daemon.process.send_signal(signal.SIGHUP)
        wait_until(lambda: len(family(output)) > 1, what="rotation")
        assert daemon.stop() == 0
    assert "writes there already" not in daemon.log


# A run over a file that cannot be stored


@pytest.mark.fault("S8")
@pytest.mark.parametrize("where", ["file", "stdout"])
@pytest.mark.parametrize("frames", [1500, 400], ids=["in the middle", "when all is labelled"])
def test_a_finite_run_that_fills_the_disk_ends_in_one_line_with_what_was_written_whole(
    tmp_path: Path, tiny_bundle: Path, where: str, frames: int
):
    source = video(tmp_path / "v.avi", frames)
    with small_disk(tmp_path / "disk", "256k") as disk:
        output = disk / "run.jsonl"
        command = [*EDGE_LABEL, "--camera", source, "--bundle", tiny_bundle, "--labels", "colours"]
        with (output if where == "stdout" else Path(os.devnull)).open("wb") as stdout:
            done = subprocess.run(
                [*command, *(["--output", output] if where == "file" else [])],
                stdout=stdout,
                stderr=subprocess.PIPE,
                text=True,
                cwd=REPOSITORY,
                timeout=60,
            )
        whole = records_of(output)
    assert done.returncode == 65
    said = [text for text in done.stderr.splitlines() if "No space left" in text]
    name = output if where == "file" else "stdout"
    assert said == [
        f"edge-label: {name}: No space left on device; the first {len(whole)} records of this run are complete; "
        "make room and run it again, or choose another output"
    ]
    assert [r["seq"] for r in whole] == list(range(len(whole)))
    assert 100 < len(whole) < frames


@pytest.mark.fault("S8")
def test_a_finite_run_whose_last_record_does_not_fit_is_no_success(
    tmp_path: Path, tiny_bundle: Path
):
    """It is written after the last frame was labelled."""
    source = video(tmp_path / "v.avi", 40)
    command = [
        *EDGE_LABEL,
        "--camera",
        source,
        "--bundle",
        tiny_bundle,
        "--labels",
        "colours",
        "--output",
    ]
    subprocess.run(
        [*command, tmp_path / "all.jsonl"],
        check=True,
        cwd=REPOSITORY,
        timeout=60,
        capture_output=True,
    )
    sizes = [len(text) for text in (tmp_path / "all.jsonl").read_bytes().splitlines(keepends=True)]
    fitting = 4096 // (max(sizes) + 10)  # times differ by a few digits from run to run
    with small_disk(tmp_path / "disk", "256k") as disk:
        fill(disk / "others")
        os.truncate(disk / "others", (disk / "others").stat().st_size - 4096)
        codes = []
        for frames in range(fitting, fitting + 4):
            output = disk / "run.jsonl"
            done = subprocess.run(
                [*command, output, "--frames", str(frames)],
                cwd=REPOSITORY,
                timeout=60,
                capture_output=True,
            )
            codes.append((done.returncode, len(records_of(output)) == frames))
            output.unlink()
    assert codes[0] == (0, True)
    assert set(codes[1:]) <= {(0, True), (65, False)}
    assert codes[-1] == (65, False)


# Power cuts


@pytest.mark.fault("S9")
@pytest.mark.parametrize(
    "torn", [b"", b'{"sch', line(2)[:60]], ids=["between lines", "in the head", "in a line"]
)
@pytest.mark.parametrize("zeros", [1, 65_536, (1 << 20) + 1, 300 << 20])
def test_a_tail_of_zeros_of_any_length_is_cut_off_in_little_memory(
    tmp_path: Path, torn: bytes, zeros: int
):
    path = tmp_path / "run.jsonl"
    path.write_bytes(line(0) + line(1) + torn)
    os.truncate(path, path.stat().st_size + zeros)
    tracemalloc.start()
    store = RecordFile(path, DEFAULT)
    store.append(line(2))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    store.close()
    assert numbers(path) == [0, 1, 2]
    assert path.read_bytes() == line(0) + line(1) + line(2)
    assert peak < 1 << 20


@pytest.mark.fault("S9")
def test_a_line_of_megabytes_without_an_end_is_cut_off(tmp_path: Path):
    path = tmp_path / "run.jsonl"
    path.write_bytes(line(0) + line(1, 5 << 20)[:-1])
    store = RecordFile(path, DEFAULT)
    store.append(line(1))
    store.close()
    assert numbers(path) == [0, 1]


@pytest.mark.fault("S9")
def test_records_of_a_disk_that_lost_its_power_are_whole_up_to_the_last_sync(tmp_path: Path):
    """Copies of a mounted ext4 while a file is written and rotated, each mounted again."""
    with ext4_image(tmp_path / "image", tmp_path / "disk") as disk:
        store = RecordFile(disk / "run.jsonl", Caps(rotate=100_000, sync_s=0))
        for cut in range(3):
            for n in range(cut * 500, cut * 500 + 500):
                store.append(line(n, 700))
            shutil.copyfile(tmp_path / "image", tmp_path / f"after{cut}")
        store.close()
    for cut in range(3):
        with mounted_image(tmp_path / f"after{cut}", tmp_path / f"again{cut}") as disk:
            again = RecordFile(disk / "run.jsonl", DEFAULT)
            again.append(line(9999))
            again.close()
            assert numbers(disk / "run.jsonl") == [*range(cut * 500 + 500), 9999]


DAMAGE = {
    "sidecar empty": lambda media, sidecar: sidecar.write_bytes(b""),
    "sidecar of zeros": lambda media, sidecar: sidecar.write_bytes(bytes(sidecar.stat().st_size)),
    "sidecar cut off": lambda media, sidecar: os.truncate(sidecar, 10),
    "sidecar is no object": lambda media, sidecar: sidecar.write_text("[1]"),
    "picture empty": lambda media, sidecar: os.truncate(media, 0),
    "picture of zeros": lambda media, sidecar: media.write_bytes(bytes(media.stat().st_size)),
    "picture ends in zeros": lambda media, sidecar: media.write_bytes(
        media.read_bytes()[:200] + bytes(100)
    ),
    "picture cut off": lambda media, sidecar: os.truncate(media, 200),
    "picture of another size": lambda media, sidecar: media.write_bytes(jpeg(299)),
}


@pytest.mark.fault("S10")
@pytest.mark.parametrize("damage", DAMAGE)
def test_a_capture_counts_only_when_sidecar_and_picture_are_whole(tmp_path: Path, damage: str):
    spool = opened(tmp_path)
    captures = [put(spool, jpeg(300)) for _ in range(3)]
    spool.close()
    DAMAGE[damage](captures[1].media, captures[1].sidecar)

    again = opened(tmp_path)
    assert again.captures() == [captures[0], captures[2]]
    assert not captures[1].sidecar.exists()
    assert again.bytes == _bytes_in(tmp_path)


@pytest.mark.fault("S10")
def test_a_clip_counts_only_with_its_header_and_size(tmp_path: Path):
    whole = video(tmp_path / "v.avi", 5).read_bytes()
    folder = tmp_path / "spool"
    spool = opened(folder, 100_000)
    captures = [put(spool, whole, suffix=".avi") for _ in range(4)]
    assert spool.captures() == captures
    spool.close()
    captures[0].media.write_bytes(bytes(len(whole)))
    captures[1].media.write_bytes(bytes(12) + whole[12:])
    captures[2].media.write_bytes(whole[:-1])
    assert opened(folder, 100_000).captures() == captures[3:]


@pytest.mark.fault("S10")
def test_files_that_are_not_ours_are_neither_counted_nor_deleted(tmp_path: Path):
    """A folder of holiday pictures may be given as the spool by mistake."""
    theirs = {
        "20260502-holiday.jpg": 3000,
        "20260502-holiday.json": 0,
        "12345678-a.avi": 2000,
        ".12345678-a.avi.part": 1,
    }
    for name, size in theirs.items():
        (tmp_path / name).write_bytes(bytes(size))
    spool = opened(tmp_path)
    for _ in range(20):
        put(spool, jpeg(2000))
    spool.close()
    assert {name: (tmp_path / name).stat().st_size for name in theirs} == theirs
    assert spool.deleted > 10


@pytest.mark.fault("S10")
def test_after_a_power_cut_the_hook_gets_whole_captures_only(tmp_path: Path):
    got = tmp_path / "got"
    hook = tmp_path / "hook.sh"
    hook.write_text(f'#!/bin/sh\necho "$1" >> {got}\n')
    hook.chmod(0o755)
    spool = opened(tmp_path / "spool")
    captures = [put(spool, jpeg(300)) for _ in range(3)]
    spool.close()
    captures[0].sidecar.write_bytes(b"")
    captures[1].media.write_bytes(bytes(300))

    rule = TriggerRule("r", when=Condition(label="snow"))
    config = TriggersConfig(
        str(tmp_path / "spool"), (rule,), hook=(str(hook),), delete_after_hook=True
    )
    sink = TriggerSink(config, JpegEncoder())
    sink.write(Task(record(), None))
    wait_until(lambda: not captures[2].media.exists())
    sink.close()
    assert got.read_text().split() == [str(captures[2].media)]


@pytest.mark.fault("S10")
def test_a_capture_that_was_announced_survives_a_power_cut(tmp_path: Path):
    """The image of a mounted ext4 is copied, as the disk stands at that moment, and mounted again."""
    with ext4_image(tmp_path / "image", tmp_path / "disk") as disk:
        spool = opened(disk / "spool", 10_000_000)
        subprocess.run(
            ["sync", "-f", disk], check=True
        )  # the folder was there before; the capture is what is new
        captures = [put(spool, jpeg(50_000)) for _ in range(3)]
        shutil.copyfile(tmp_path / "image", tmp_path / "after")
        spool.close()
    with mounted_image(tmp_path / "after", tmp_path / "again") as disk:
        survivors = opened(disk / "spool", 10_000_000)
        names = [capture.media.name for capture in survivors.captures()]
        survivors.close()
    assert names == [capture.media.name for capture in captures]


# A full disk keeps the newest


@pytest.mark.fault("S11")
def test_a_disk_of_one_megabyte_keeps_the_newest_of_749_records(tmp_path: Path):
    """Before, 394 of the 749 were stored, and none of the last 355."""
    with small_disk(tmp_path / "disk", "1m") as disk:
        store = RecordFile(disk / "run.jsonl", DEFAULT)
        for n in range(749):
            store.append(line(n, (1 << 20) // 394))
            assert n < 394 or _bytes_in(disk) > 0.75 * (1 << 20)  # never everything at once
        store.close()
        kept = numbers(disk / "run.jsonl")
    assert kept == list(range(kept[0], 749))
    assert len(kept) > 0.8 * 394
    assert store.deleted > 0


@pytest.mark.fault("S11")
def test_the_live_file_is_given_up_when_others_fill_the_disk(tmp_path: Path):
    with small_disk(tmp_path / "disk", "256k") as disk:
        store = RecordFile(disk / "run.jsonl", DEFAULT)
        for n in range(100):  # 10 kB, less than what is rotated
            store.append(line(n))
        fill(disk / "others")
        for n in range(100, 300):
            store.append(line(n))
        store.close()
        kept = numbers(disk / "run.jsonl")
    assert kept == list(range(kept[0], 300))
    assert store.deleted > 0


@pytest.mark.fault("S11")
def test_a_cap_holds_and_the_newest_stays_where_the_file_cannot_be_rotated(
    tmp_path: Path, monkeypatch
):
    """As a single file that is mounted into a container cannot."""

    def busy(*_: object) -> None:
        raise OSError(16, "Device or resource busy")

    monkeypatch.setattr(Path, "rename", busy)
    path = tmp_path / "run.jsonl"
    store = RecordFile(path, Caps(total=10_000, rotate=4_000))
    for n in range(500):
        store.append(line(n))
        assert path.stat().st_size <= 10_000
    store.close()
    kept = numbers(path)
    assert kept == list(range(kept[0], 500))


@pytest.mark.fault("S11")
def test_files_with_such_names_that_are_not_ours_are_never_given_up(tmp_path: Path):
    (tmp_path / "run.000007.jsonl").write_text("a shopping list")
    store = RecordFile(tmp_path / "run.jsonl", Caps(total=4_000, rotate=1_000))
    for n in range(200):
        store.append(line(n))
    store.close()
    assert (tmp_path / "run.000007.jsonl").read_text() == "a shopping list"
    assert store.deleted > 0


@pytest.mark.fault("S11")
def test_a_spool_on_a_full_disk_gives_its_oldest_for_the_newest(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    with small_disk(tmp_path / "disk", "1m") as disk:
        spool = opened(disk / "spool", 50_000_000)
        for _ in range(100):
            assert put(spool, jpeg(30_000))
        kept = [int(capture.media.name[:8]) for capture in spool.captures()]
        assert spool.bytes == _bytes_in(disk / "spool")
        spool.close()
    assert kept == list(range(kept[0], 101))
    assert len(kept) > 20
    assert spool.deleted == 100 - len(kept)
    assert caplog.text.count("the disk is full") == 1


@pytest.mark.fault("S11")
def test_what_the_hook_has_taken_away_is_not_counted_as_given_up(tmp_path: Path):
    with small_disk(tmp_path / "disk", "1m") as disk:
        spool = opened(disk / "spool", 50_000_000)
        captures = [put(spool, jpeg(30_000)) for _ in range(20)]
        for capture in captures[:10]:
            capture.sidecar.unlink()
            capture.media.unlink()
        fill(disk / "others")
        assert put(spool, jpeg(30_000))
        assert spool.deleted == 20 + 1 - 10 - len(spool.captures())
        assert not captures[10].media.exists()
        spool.close()


@pytest.mark.fault("S11")
def test_records_and_captures_on_one_small_disk_go_back_equally_far(tmp_path: Path):
    """Before, sharing 2 MB, 54 of 461 records were stored, and then no more of anything."""
    with small_disk(tmp_path / "disk", "2m") as disk:
        store = RecordFile(disk / "run.jsonl", DEFAULT)
        spool = opened(disk / "spool", 50_000_000)
        for n in range(461):
            store.append(line(n, 2600))
            put(spool, jpeg(40_000), f"s{n}-20260502T091307Z")
        records = numbers(disk / "run.jsonl")
        captures = [int(capture.media.name.split("-")[1][1:]) for capture in spool.captures()]
        store.close()
        spool.close()
    assert records == list(range(records[0], 461))
    assert captures == list(range(captures[0], 461))
    assert len(captures) > 20
    assert len(records) > 20
    assert abs(records[0] - captures[0]) < 20


@pytest.mark.fault("S11")
def test_what_is_left_from_an_earlier_run_goes_first_whatever_the_clock_says(tmp_path: Path):
    """The clock was at 2038 then and is at 1970 now."""
    with small_disk(tmp_path / "disk", "1m") as disk:
        old = RecordFile(disk / "run.jsonl", Caps(rotate=20_000))
        for n in range(200):
            old.append(line(n, 1000))
        old.close()
        for path in disk.iterdir():
            os.utime(path, (2**31, 2**31))
        spool = opened(disk / "spool", 50_000_000)
        new = RecordFile(disk / "run.jsonl", DEFAULT)
        first = put(spool, jpeg(100_000))
        os.utime(first.media, (0, 0))
        fill(disk / "others")
        os.truncate(disk / "others", (disk / "others").stat().st_size - 8192)
        for n in range(200, 250):
            new.append(line(n, 1000))
        assert first.is_whole()
        new.close()
        spool.close()
        assert numbers(disk / "run.jsonl")[-1] == 249


@pytest.mark.fault("S11")
def test_a_daemon_on_a_small_disk_says_in_its_records_what_it_gave_up(
    tmp_path: Path, tiny_bundle: Path
):
    with small_disk(tmp_path / "disk", "1m") as disk:
        output, stdout = disk / "run.jsonl", tmp_path / "stdout"
        file = write_config(
            tmp_path / "c.yaml",
            tiny_bundle,
            camera={"fps": 240},
            output={"file": str(output), "stdout": True},
        )
        fill(disk / "others")
        os.truncate(disk / "others", (disk / "others").stat().st_size - 100_000)
        with (
            stdout.open("wb") as stream,
            Daemon(tmp_path, "--config", file, stdout=stream) as daemon,
        ):
            wait_until(lambda: any(r.get("deleted", 0) > 3 for r in records_of(stdout)[-5:]))
            assert daemon.stop() == 0
        kept, made = numbers(output), records_of(stdout)
    assert kept == list(range(kept[0], len(made)))
    assert "lost" not in made[-1]
    assert (
        daemon.log.count("the disk is full; from now on the oldest records and captures make room")
        == 1
    )


# Two programs on one file


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
    with holder(path) as pid:
        done = subprocess.run(
            [*EDGE_LABEL, "--config", file, "--frames", "3"],
            capture_output=True,
            text=True,
            cwd=REPOSITORY,
            timeout=60,
        )
        name = Path(f"/proc/{pid}/comm").read_text().strip()
        assert done.returncode == 78
        assert done.stderr == (
            f"edge-label: {path}: process {pid} ({name}) writes there already; stop that, or give another {what}\n"
        )
    done = subprocess.run(
        [*EDGE_LABEL, "--config", file, "--frames", "3"],
        capture_output=True,
        text=True,
        cwd=REPOSITORY,
        timeout=60,
    )
    assert done.returncode == 0


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
ctypes.CDLL(None).syscall({"x86_64": 60, "aarch64": 93}[platform.machine()], 0)  # ends this thread only
"""


@pytest.mark.fault("S12")
def test_a_killed_process_that_a_driver_keeps_from_ending_keeps_nobody_out(tmp_path: Path):
    """Its first thread is gone and it still has its files, as when a thread of it hangs in a camera's driver."""
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


@pytest.mark.fault("S10")
def test_what_triggers_write_is_recognised_as_ours(tmp_path: Path):
    rule = TriggerRule("a_rule-1", when=Condition(state="ok"))
    config = TriggersConfig(str(tmp_path), (rule,))
    sink = TriggerSink(config, JpegEncoder())
    made, frame = record(), Frame(np.zeros((48, 64, 3), np.uint8), "bgr", 1.0, 0.0)
    item = Rules(config, ()).choose(LabelledFrame(made, frame))
    assert item is not None
    sink.write(*item)
    sink.close()
    (capture,) = opened(tmp_path).captures()
    assert capture.sidecar.exists()
