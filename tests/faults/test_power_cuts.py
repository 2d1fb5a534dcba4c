"""After a power cut nothing is half: records and captures are whole, or they are gone."""

from __future__ import annotations

import os
import shutil
import subprocess
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from edge_runtime.camera.jpeg import JpegEncoder
from edge_runtime.config import Condition, TriggerRule, TriggersConfig
from edge_runtime.records import Frame, LabelledFrame
from edge_runtime.sinks.files.record_file import Caps, RecordFile
from edge_runtime.sinks.triggers.rules import Rules, Task
from edge_runtime.sinks.triggers.sink import TriggerSink
from tests.daemon import wait_until
from tests.disks import bytes_in, ext4_image, mounted_image, video
from tests.faults.test_storage import line, numbers
from tests.unit.sinks.triggers.test_spool import jpeg, opened, put
from tests.unit.test_records import record

DEFAULT = Caps()  # rotate_mb: 50, max_mb: 1000


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
    assert again.bytes == bytes_in(tmp_path)


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
    """The image of a mounted ext4 is copied as it is at that moment, and mounted again."""
    with ext4_image(tmp_path / "image", tmp_path / "disk") as disk:
        spool = opened(disk / "spool", 10_000_000)
        # The folder was there before; the captures are new.
        subprocess.run(["sync", "-f", disk], check=True)
        captures = [put(spool, jpeg(50_000)) for _ in range(3)]
        shutil.copyfile(tmp_path / "image", tmp_path / "after")
        spool.close()

    with mounted_image(tmp_path / "after", tmp_path / "again") as disk:
        survivors = opened(disk / "spool", 10_000_000)
        names = [capture.media.name for capture in survivors.captures()]
        survivors.close()

    assert names == [capture.media.name for capture in captures]


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
