"""The spool keeps its cap, never shows half a capture, and survives a disk that fails anywhere."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
import tracemalloc
from pathlib import Path

import pytest

from edge_runtime.errors import ConfigError
from edge_runtime.sinks.triggers.spool import Spool
from tests.daemon import wait_until
from tests.disks import bytes_in

NAME = "rule-20260502T091307Z"


def jpeg(size: int) -> bytes:
    """What looks like a whole JPEG of ``size`` bytes."""
    frame_header = bytes.fromhex("ffc0 0011 08 0030 0040 03 012200 021101 031101")
    padding = bytes(max(64, size) - 4 - len(frame_header))
    return b"\xff\xd8" + frame_header + padding + b"\xff\xd9"


def opened(folder: Path, max_bytes: int = 10_000) -> Spool:
    spool = Spool(folder, max_bytes)
    spool.open()
    return spool


def put(spool: Spool, data: bytes, name: str = NAME, suffix: str = ".jpg"):
    draft = spool.start(name, suffix)
    if not draft.reserve(len(data)):
        draft.abandon()
        return None
    draft.stream.write(data)
    return draft.finish(lambda media, size: {"file": media, "bytes": size})


def test_a_capture_is_a_media_file_and_its_sidecar_and_nothing_else(tmp_path: Path):
    folder = tmp_path / "a" / "spool"
    capture = put(opened(folder), b"x" * 100, "snow-20260502T091307Z")
    assert sorted(p.name for p in folder.iterdir()) == [
        "00000001-snow-20260502T091307Z.jpg",
        "00000001-snow-20260502T091307Z.json",
    ]
    assert json.loads(capture.sidecar.read_text()) == {"file": capture.media.name, "bytes": 100}
    assert folder.stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o777 for path in folder.iterdir()} == {0o600}


def test_the_cap_holds_at_every_moment_and_the_oldest_go_first(tmp_path: Path):
    spool = opened(tmp_path)
    for i in range(200):
        put(spool, bytes(100 + 37 * (i % 50)))
        assert bytes_in(tmp_path) <= 10_000
    numbers = sorted({int(p.name[:8]) for p in tmp_path.iterdir()})
    assert numbers == list(range(numbers[0], 201))
    assert spool.deleted == numbers[0] - 1
    assert spool.bytes == bytes_in(tmp_path)


def test_what_can_never_fit_deletes_nothing(tmp_path: Path):
    spool = opened(tmp_path)
    put(spool, b"x" * 5000)
    assert put(spool, b"x" * 10_001) is None
    assert len(list(tmp_path.iterdir())) == 2
    assert put(spool, b"x" * 9_999) is None, "the sidecar counts too"
    assert not list(tmp_path.glob(".*"))


def test_drafts_count_against_the_cap(tmp_path: Path):
    spool = opened(tmp_path)
    clip = spool.start("clip-20260502T091307Z", ".avi")
    for _ in range(8):
        assert clip.reserve(1000)
        clip.stream.write(bytes(1000))
        clip.stream.flush()
        put(spool, bytes(1500))
        assert bytes_in(tmp_path) <= 10_000
    assert put(spool, bytes(2500)) is None, "the draft alone leaves less"
    assert clip.finish(lambda media, size: {"file": media})
    assert bytes_in(tmp_path) <= 10_000
    assert spool.bytes == bytes_in(tmp_path)
    assert spool._drafted == 0


def test_numbering_goes_on_after_a_restart_and_leftovers_are_taken_away(tmp_path: Path):
    spool = opened(tmp_path)
    put(spool, jpeg(100))
    spool.close()
    (tmp_path / f".00000002-{NAME}.jpg.part").write_bytes(b"half")
    (tmp_path / "somebody-elses.txt").write_text("stays")
    spool = opened(tmp_path)
    assert put(spool, jpeg(100)).media.name.startswith("00000002-")
    assert [c.media.name for c in spool.captures()] == [
        f"00000001-{NAME}.jpg",
        f"00000002-{NAME}.jpg",
    ]
    assert (tmp_path / "somebody-elses.txt").exists()
    assert not list(tmp_path.glob(".*"))


def test_room_that_somebody_else_made_is_seen(tmp_path: Path):
    spool = opened(tmp_path)
    for _ in range(4):
        put(spool, bytes(2400))
    for path in tmp_path.glob("0000000[12]*"):
        path.unlink()
    put(spool, bytes(2400))
    assert spool.deleted == 0


@pytest.mark.fault("S5")
def test_a_read_only_disk_stops_no_start_and_is_tried_again(tmp_path: Path, monkeypatch, caplog):
    """With exit code 78 the service would stay down, on a machine that nobody visits."""

    def read_only(path: Path, *_: object, **__: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system", str(path))

    with monkeypatch.context() as worn:
        worn.setattr(Path, "mkdir", read_only)
        spool = Spool(tmp_path / "spool", 10_000)
        assert "captures are lost until that is over" in caplog.text
        with pytest.raises(OSError, match="Read-only"):
            spool.open()
    spool.open()
    assert put(spool, b"x").media.exists()


def test_a_folder_that_cannot_be_used_is_one_clear_line(tmp_path: Path):
    (tmp_path / "file").touch()
    for wrong in (tmp_path / "file", tmp_path / "file" / "below", Path("/proc/spool")):
        with pytest.raises(ConfigError, match="choose another folder"):
            Spool(wrong, 1000)


@pytest.mark.parametrize("call", ["fsync", "replace", "open"])
def test_a_call_that_fails_leaves_nothing_behind_and_the_next_capture_works(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
):
    spool = opened(tmp_path)
    put(spool, b"before")
    target = Path if call == "replace" else os

    def fails(*_: object) -> None:
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(target, call, fails)
        with pytest.raises(OSError, match="Input/output"):
            put(spool, b"fails")
    assert len(list(tmp_path.glob("[0-9]*"))) == 2
    assert put(spool, b"after")
    assert spool.bytes == bytes_in(tmp_path)


def newest(folder: Path) -> int:
    return max((int(path.name[:8]) for path in folder.glob("[0-9]*")), default=0)


def test_a_process_killed_at_any_moment_leaves_only_whole_captures(tmp_path: Path):
    script = (
        "import sys; from tests.unit.sinks.triggers.test_spool import *\n"
        "spool = opened(Path(sys.argv[1]), 200_000)\n"
        "while True: put(spool, jpeg(3000))\n"
    )
    for delay in (0.02, 0.05, 0.11):
        before = newest(tmp_path)
        process = subprocess.Popen([sys.executable, "-c", script, str(tmp_path)])
        wait_until(lambda before=before: newest(tmp_path) > before + 2)
        try:
            process.wait(delay)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        spool = opened(tmp_path, 200_000)
        for sidecar in tmp_path.glob("*.json"):
            described = json.loads(sidecar.read_text())
            assert (tmp_path / described["file"]).stat().st_size == described["bytes"] == 3000
        assert len(spool.captures()) == len(list(tmp_path.glob("*.json")))
        assert bytes_in(tmp_path) <= 200_000
        assert not list(tmp_path.glob(".*.part"))
        spool.close()


@pytest.mark.fault("P3")
def test_what_is_remembered_of_a_capture_is_small(tmp_path: Path):
    """A day of captures must not show in the process: two Paths for each were 2 MB an hour."""
    spool = Spool(tmp_path / "spool", 10**9)
    spool.open()

    def keep(count: int) -> None:
        for _ in range(count):
            draft = spool.start("different-20260502T091307Z", ".jpg")
            draft.reserve(4)
            draft.stream.write(b"jpeg")
            draft.finish(lambda media, size: {"file": media, "bytes": size})

    keep(10)
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        keep(200)
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert (after - before) / 200 < 450
