"""Cameras that leave, stall, freeze and lie: a record every second, and back within five."""

from __future__ import annotations

import itertools
import logging
import os
import re
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from edge_runtime.camera import live, open_source, pace
from edge_runtime.camera.live import LiveSource
from edge_runtime.config import CameraConfig
from edge_runtime.errors import DeviceError, StuckError
from edge_runtime.records import Frame
from tests.daemon import Daemon, records_of, wait_until, write_config
from tests.doubles.mjpeg_camera import MjpegCamera
from tests.live_camera import frames, read_until

TRIES = int(os.environ.get("EDGE_LABEL_RECONNECTS", "3"))


@pytest.fixture
def network_camera() -> Iterator[MjpegCamera]:
    with MjpegCamera() as camera:
        yield camera


def changes(caplog: pytest.LogCaptureFixture) -> list[str]:
    """What the log says of the camera, line by line, whatever the seconds were."""
    lines = [record.message for record in caplog.records]
    return [re.sub(r"\d+", "N", line) for line in lines if line.startswith("camera ")]


def picture(value: int = 0) -> Frame:
    return Frame(np.full((4, 4, 3), value, np.uint8), "bgr", time.monotonic(), time.time())


class Scripted:
    """A device that does what the list says, one step a grab: a frame, or an exception to raise."""

    def __init__(
        self, steps: list[Frame | Exception], after: Callable[[], Frame] | None = None
    ) -> None:
        self._steps = iter(steps)
        self._after = after

    def grab(self) -> Frame:
        step = next(self._steps, None)
        if step is None and self._after:
            return self._after()
        if step is None or isinstance(step, Exception):
            raise step or DeviceError("end of script", state="no_signal")
        return step

    def close(self) -> None:
        pass


@pytest.mark.fault("C2")
def test_an_unplugged_camera_is_back_within_five_seconds_of_its_return(
    network_camera: MjpegCamera, caplog: pytest.LogCaptureFixture
):
    """EDGE_LABEL_RECONNECTS=100 is the long form; the absence grows, and so does the backoff."""
    caplog.set_level(logging.INFO)
    source = open_source(CameraConfig(source=network_camera.url))
    took = []
    try:
        for n in range(TRIES):
            frames(source, 1)
            network_camera.unplug()
            read_until(source, lambda _: source.state != "ok")
            threading.Event().wait((0.1, 1.5, 4)[n % 3])  # how long it is away
            while source.read(0) is not None:
                pass
            network_camera.plug_in()
            start = time.monotonic()
            frames(source, 1)
            took.append(time.monotonic() - start)
    finally:
        source.close()
    print(f"back after {min(took):.2f} to {max(took):.2f} s in {len(took)} of {TRIES} tries")
    assert max(took) < 5
    # One line a change: never the same state twice in a row.
    assert all(a != b for a, b in itertools.pairwise(changes(caplog)))


@pytest.mark.fault("P4")
def test_a_thousand_reconnects_keep_threads_and_descriptors_constant(
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setattr(live, "BACKOFF_FIRST_S", 0.0)
    monkeypatch.setattr(live, "BACKOFF_MAX_S", 0.0)
    opened = [0]

    class Once:
        def __init__(self) -> None:
            opened[0] += 1
            self._fd = os.open(os.devnull, os.O_RDONLY)
            self._frames = 2

        def grab(self) -> Frame:
            self._frames -= 1
            if self._frames < 0:
                raise DeviceError("cable out", state="no_signal")
            return picture(self._frames)

        def close(self) -> None:
            os.close(self._fd)

    def counts() -> tuple[int, int]:
        return threading.active_count(), sum(1 for _ in Path("/proc/self/fd").iterdir())

    source = LiveSource("x", Once, CameraConfig())
    try:
        read_until(source, lambda _: opened[0] >= 10)
        early = counts()
        read_until(source, lambda _: opened[0] >= 1010)
        late = counts()
    finally:
        source.close()
    print(f"threads {early[0]} -> {late[0]}", end=", ")
    print(f"descriptors {early[1]} -> {late[1]} over 1,000 reconnects")
    assert late[0] <= early[0]
    assert late[1] <= early[1] + 1  # the device is open or not at the moment of counting


@pytest.mark.fault("C1", "C2")
def test_the_wait_grows_to_thirty_seconds_and_ends_when_the_camera_shows(
    monkeypatch: pytest.MonkeyPatch,
):
    waits: list[float] = []
    here = [0]
    source = LiveSource("x", lambda: Scripted([]), CameraConfig(), presence=lambda: here[0])
    monkeypatch.setattr(live, "LOOK_S", 0.0)
    now = [0.0]
    monkeypatch.setattr(live.time, "monotonic", lambda: now.__setitem__(0, now[0] + 0.25) or now[0])
    seconds = live.BACKOFF_FIRST_S
    for _ in range(7):
        waits.append(seconds)
        seconds = source._back_off(seconds)
    assert waits == [1, 2, 4, 8, 16, 30, 30]
    looks = iter([0, 0, 1])
    source._presence = lambda: next(looks)
    start = now[0]
    assert source._back_off(30) == 1
    assert now[0] - start < 5


@pytest.mark.fault("C10")
def test_a_stalled_stream_is_explained_every_second_and_resumes_without_a_restart(
    network_camera: MjpegCamera, tmp_path: Path, tiny_bundle: Path
):
    output = tmp_path / "out.jsonl"
    file = write_config(tmp_path / "c.yaml", tiny_bundle, camera={"source": network_camera.url})
    with Daemon(tmp_path, "--config", file, "--output", output) as daemon:
        wait_until(lambda: any(r["state"] == "ok" for r in records_of(output)))
        network_camera.mode = "stall"
        before = network_camera.connections
        wait_until(lambda: sum(r["state"] == "stale" for r in records_of(output)) >= 5)
        wait_until(
            lambda: network_camera.connections > before,
            8,
            "a new connection while the old one stalls",
        )
        network_camera.mode = "ok"
        network_camera.unplug()  # the camera's reboot
        network_camera.plug_in()
        seen = len(records_of(output))
        wait_until(lambda: any(r["state"] == "ok" for r in records_of(output)[seen:]), 10)
        assert daemon.stop() == 0
    records = records_of(output)
    assert [r["seq"] for r in records] == list(range(len(records)))
    times = [r["mono_s"] for r in records]
    gaps = [b - a for a, b in itertools.pairwise(times)]
    assert max(gaps) < 2.5, "a second without a record"  # one, and room for a busy machine
    stale = [r for r in records if r["state"] == "stale"]
    assert {r["camera_state"] for r in stale} >= {"frozen"}
    assert all(r["labels"] == [] for r in stale)
    assert daemon.log.count(": frozen, ") <= 2


BLOCKED = """
    import sys, threading
    from edge_runtime.camera import demo
    from edge_runtime.cli import main

    plain = demo.DemoCamera.grab
    def grab(self, count=[0]):
        count[0] += 1
        if count[0] > 20:
            threading.Event().wait()  # the driver never answers again
        return plain(self)
    demo.DemoCamera.grab = grab
    sys.exit(main(sys.argv[1:]))
"""


def blocked_daemon(folder: Path, *arguments: str | Path) -> Daemon:
    return Daemon(folder, *arguments, program=(sys.executable, "-c", textwrap.dedent(BLOCKED)))


@pytest.mark.fault("C3")
def test_a_read_that_never_returns_is_stale_then_frozen_then_exit_70(
    tmp_path: Path, tiny_bundle: Path
):
    output = tmp_path / "out.jsonl"
    file = write_config(tmp_path / "c.yaml", tiny_bundle, camera={"stuck_s": 10})
    with blocked_daemon(tmp_path, "--config", file, "--output", output) as daemon:
        wait_until(lambda: any(r["state"] == "stale" for r in records_of(output)))
        wait_until(lambda: records_of(output)[-1].get("camera_state") == "frozen")
        names = [
            p.read_text().strip() for p in Path(f"/proc/{daemon.process.pid}/task").glob("*/comm")
        ]
        print(f"threads {sorted(names)}")
        assert daemon.process.wait(20) == 70
    assert "only a new process can help" in daemon.log
    records = records_of(output)
    stale = [r["mono_s"] for r in records if r["state"] == "stale"]
    last_frame = max(r["mono_s"] for r in records if r["state"] != "stale")
    assert stale[0] - last_frame < 3
    assert stale[-1] - last_frame == pytest.approx(10, abs=2)
    assert daemon.log.count(": frozen, ") == 1


@pytest.mark.fault("P1")
def test_a_blocked_camera_does_not_delay_the_end(tmp_path: Path, tiny_bundle: Path):
    output = tmp_path / "out.jsonl"
    with blocked_daemon(
        tmp_path, "--config", write_config(tmp_path / "c.yaml", tiny_bundle), "--output", output
    ) as daemon:
        wait_until(lambda: any(r["state"] == "stale" for r in records_of(output)))
        assert daemon.stop(within_s=5) == 0
    assert output.read_text().endswith("\n")


@pytest.mark.fault("C3")
def test_never_a_second_capture_thread(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(pace, "SILENT_S", 0.2)
    release = threading.Event()
    source = LiveSource(
        "x",
        lambda: Scripted([picture()], after=lambda: release.wait() and picture()),
        CameraConfig(),
    )
    source._pace.stuck_s = 0.5
    assert source.read(5) is not None
    with pytest.raises(StuckError, match="only a new process"):
        read_until(source, lambda _: False)
    assert source.state == "frozen"
    assert sum(t.name == "capture" for t in threading.enumerate()) == 1
    release.set()
    source.close()
    assert StuckError("").exit_code == 70


@pytest.mark.fault("C4")
def test_the_same_frame_again_and_again_is_frozen_and_then_the_camera_is_opened_again():
    opened = [0]

    def device() -> Scripted:
        opened[0] += 1
        alive = (picture(n % 251) for n in itertools.count())
        return (
            Scripted([picture(7)] * 1000)
            if opened[0] == 1
            else Scripted([], after=lambda: next(alive))
        )

    source = LiveSource("x", device, CameraConfig(frozen_frames=5))
    read_until(source, lambda seen: seen and (seen[-1].frozen or opened[0] > 1))
    read_until(source, lambda seen: seen and opened[0] > 1 and not seen[-1].frozen)
    source.close()


@pytest.mark.fault("C4")
def test_a_frozen_stream_gets_no_label_and_says_frozen(
    network_camera: MjpegCamera, tmp_path: Path, tiny_bundle: Path
):
    output = tmp_path / "out.jsonl"
    camera = {"source": network_camera.url, "frozen_frames": 15}
    file = write_config(tmp_path / "c.yaml", tiny_bundle, camera=camera)
    with Daemon(tmp_path, "--config", file, "--output", output) as daemon:
        wait_until(lambda: any(r["state"] == "ok" for r in records_of(output)))
        network_camera.mode = "frozen"
        frozen = wait_until(lambda: [r for r in records_of(output) if r["state"] == "frozen"])
        assert frozen[0]["camera_state"] == "frozen"
        assert not any(label["on"] for r in frozen for label in r["labels"])
        network_camera.mode = "dark"
        dark = wait_until(
            lambda: [r for r in records_of(output) if r["state"] == "low_information"]
        )
        assert not any(label["on"] for r in dark for label in r["labels"])
        network_camera.mode = "ok"
        wait_until(lambda: records_of(output)[-1]["state"] == "ok")
        assert daemon.stop() == 0
    assert daemon.log.count("the same picture 15 times") >= 1


@pytest.mark.fault("C6")
def test_a_stream_of_rubbish_crashes_nothing(
    network_camera: MjpegCamera, tmp_path: Path, tiny_bundle: Path
):
    output = tmp_path / "out.jsonl"
    file = write_config(tmp_path / "c.yaml", tiny_bundle, camera={"source": network_camera.url})
    with Daemon(tmp_path, "--config", file, "--output", output) as daemon:
        wait_until(lambda: any(r["state"] == "ok" for r in records_of(output)))
        network_camera.mode = "broken"
        before = len(records_of(output))
        wait_until(lambda: len(records_of(output)) > before + 2)
        network_camera.mode = "ok"
        wait_until(lambda: records_of(output)[-1]["state"] == "ok")
        assert daemon.stop() == 0


HUNG = """
    import sys, threading
    from edge_runtime.cli import main
    from edge_runtime.model import encoder

    plain = encoder.Encoder.__call__
    def hang(self, batch, count=[0]):
        count[0] += 1
        if count[0] > 20:
            threading.Event().wait()  # inference never ends
        return plain(self, batch)
    encoder.Encoder.__call__ = hang
    sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.fault("P2")
def test_a_hung_inference_feeds_no_watchdog(tmp_path: Path, tiny_bundle: Path):
    file = write_config(tmp_path / "c.yaml", tiny_bundle)
    output = tmp_path / "out.jsonl"
    program = (sys.executable, "-c", textwrap.dedent(HUNG))
    with Daemon(tmp_path, "--config", file, "--output", output, program=program) as daemon:
        wait_until(lambda: len(records_of(output)) == 20)
        daemon.drain()
        with pytest.raises(AssertionError, match="not heard"):
            daemon.wait_for("WATCHDOG=1", timeout_s=2.5)


@pytest.mark.fault("C9")
def test_a_fast_camera_and_a_slow_consumer_keep_one_frame_in_memory():
    count = iter(range(1, 100_000))

    def tick() -> Frame:
        time.sleep(0.001)  # a camera of up to 1,000 frames a second
        n = next(count)
        return Frame(np.full((64, 64, 3), n % 251, np.uint8), "bgr", float(n), time.time())

    source = LiveSource("x", lambda: Scripted([], after=tick), CameraConfig())
    seen = []
    for _ in range(5):
        threading.Event().wait(0.05)  # the consumer is slow
        frame = source.read(5)
        assert frame is not None
        seen.append(frame)
    source.close()
    numbers = [int(f.captured_s) for f in seen]
    assert numbers == sorted(numbers)
    assert [f.dropped for f in seen] == [number - k for k, number in enumerate(numbers, 1)]
    assert numbers[-1] > 20


@pytest.mark.fault("C2")
def test_whatever_a_driver_throws_the_camera_is_tried_again(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    monkeypatch.setattr(live, "BACKOFF_FIRST_S", 0.01)
    cameras = iter(
        [Scripted([RuntimeError("a bug in a\nbinding")]), Scripted([picture()], after=picture)]
    )
    source = LiveSource("x", lambda: next(cameras), CameraConfig())
    assert frames(source, 1)
    source.close()
    assert "RuntimeError: a bug in a\\x0abinding" in caplog.text
