"""Disks that are small or full: the newest is there, and a run that cannot store says so."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from edge_runtime.config import CameraConfig
from edge_runtime.daemon.parts import run_kind
from edge_runtime.sinks.files.record_file import Caps, RecordFile
from tests.daemon import EDGE_LABEL, REPOSITORY, Daemon, records_of, wait_until, write_config
from tests.disks import bytes_in, fill, small_disk, video
from tests.faults.test_storage import family, line, numbers
from tests.unit.sinks.triggers.test_spool import jpeg, opened, put

DEFAULT = Caps()  # rotate_mb: 50, max_mb: 1000


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
            # A listing may meet a file that is being deleted.
            assert min(bytes_in(output.parent) for _ in range(3)) <= 2e6
            time.sleep(0.01)
        assert daemon.stop() == 0

    assert records_of(output)[-1]["deleted"] > 0


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
        f"edge-label: {name}: No space left on device; "
        f"the first {len(whole)} records of this run are complete; "
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


# A full disk keeps the newest


@pytest.mark.fault("S11")
def test_a_disk_of_one_megabyte_keeps_the_newest_of_749_records(tmp_path: Path):
    """Before, 394 of the 749 were stored, and none of the last 355."""
    with small_disk(tmp_path / "disk", "1m") as disk:
        store = RecordFile(disk / "run.jsonl", DEFAULT)
        for n in range(749):
            store.append(line(n, (1 << 20) // 394))
            assert n < 394 or bytes_in(disk) > 0.75 * (1 << 20)  # never everything at once
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
        assert spool.bytes == bytes_in(disk / "spool")
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
