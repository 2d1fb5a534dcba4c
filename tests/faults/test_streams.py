"""Network cameras as they are sold: for one viewer only, slow, or for single pictures."""

from __future__ import annotations

import logging
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from edge_runtime.camera import live, open_source, pace, stream
from edge_runtime.camera.live import LiveSource
from edge_runtime.camera.stream import Stream
from edge_runtime.config import CameraConfig
from edge_runtime.records import Frame
from tests.commands import need
from tests.daemon import PATIENCE_S, Daemon, write_config
from tests.doubles.mjpeg_camera import jpegs
from tests.doubles.ports import free_port
from tests.live_camera import frames, live_sources, read_until

PICTURES = jpegs()
_MULTIPART = b"HTTP/1.0 200 OK\r\nContent-Type: multipart/x-mixed-replace; boundary=frame\r\n\r\n"


def part(number: int) -> bytes:
    data = PICTURES[number % len(PICTURES)]
    return b"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n%s\r\n" % (
        len(data),
        data,
    )


class Server:
    """Hands each connection to ``serve``, in a thread of its own; takes at most ``clients``."""

    def __init__(
        self, serve: Callable[[socket.socket], None], *, clients: int = 1_000_000, port: int = 0
    ) -> None:
        self._serve = serve
        self._left = clients
        self._listener = socket.create_server(("127.0.0.1", port))
        self.port = self._listener.getsockname()[1]
        self.connections = 0
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    def _accept(self) -> None:
        while self._left:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            self._left -= 1
            self.connections += 1
            threading.Thread(target=self._one, args=(client,), daemon=True).start()
        self.close()

    def _one(self, client: socket.socket) -> None:
        try:
            with client:
                self._serve(client)
        except OSError:
            pass

    def close(self) -> None:
        try:
            self._listener.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        self._listener.close()


@pytest.fixture
def opened() -> Iterator[Callable[..., LiveSource]]:
    """Live sources that are closed at the end of the test."""
    with live_sources() as of:
        yield of


def multipart(every_s: float) -> Callable[[socket.socket], None]:
    """What a server does with a client: multipart pictures, one every so many seconds."""

    def serve(client: socket.socket) -> None:
        if not client.recv(4096):
            return
        client.sendall(_MULTIPART)
        for number in range(10_000):
            client.sendall(part(number))
            time.sleep(every_s)

    return serve


@pytest.mark.fault("C15")
def test_a_server_for_one_client_gives_that_client_to_the_camera(opened: Callable[..., LiveSource]):
    """The camera is absent at first and waited for; then it takes one connection in all."""
    port = free_port()
    source = opened(f"http://127.0.0.1:{port}/stream")
    read_until(source, lambda _: source.state != "opening")
    server = Server(multipart(0.02), clients=1, port=port)
    assert len(frames(source, 5)) == 5
    assert server.connections == 1


@pytest.mark.fault("C15")
@pytest.mark.parametrize("scheme", ["http", "tcp"])
def test_ffmpeg_that_listens_for_one_client_is_seen(opened: Callable[..., LiveSource], scheme: str):
    ffmpeg = need("ffmpeg", "ffmpeg")
    url = f"{scheme}://127.0.0.1:{free_port()}"
    source = opened(url)
    read_until(source, lambda _: source.state != "opening")
    picture = ["-re", "-f", "lavfi", "-i", "testsrc=size=160x120:rate=15", "-c:v", "mjpeg"]
    form = ["-f", "mpjpeg"] if scheme == "http" else ["-f", "mjpeg"]
    with subprocess.Popen([ffmpeg, "-v", "error", *picture, *form, "-listen", "1", url]) as camera:
        try:
            assert len(frames(source, 5)) == 5
        finally:
            camera.kill()


@pytest.mark.fault("C15")
def test_an_absent_camera_is_tried_ever_less_often(opened: Callable[..., LiveSource]):
    """A server that hangs up counts the tries: after 0, 1, 3 and 7 seconds, and none between."""
    server = Server(lambda _client: None)
    start = time.monotonic()
    source = opened(f"http://127.0.0.1:{server.port}/stream")
    while time.monotonic() - start < 4.5:
        source.read(0.2)
    assert 2 <= server.connections <= 3
    server.close()


def test_a_stream_is_waited_for_no_longer_than_five_seconds(monkeypatch: pytest.MonkeyPatch):
    """It shows in no other way that it is back."""
    source = open_source(CameraConfig(source="http://127.0.0.1:9/x"))
    assert isinstance(source, LiveSource)
    monkeypatch.setattr(live, "LOOK_S", 0.0)
    now = [0.0]
    monkeypatch.setattr(live.time, "monotonic", lambda: now.__setitem__(0, now[0] + 0.25) or now[0])
    waits = [live.BACKOFF_FIRST_S]
    for _ in range(4):
        waits.append(source._back_off(waits[-1]))
    assert waits == [1, 2, 4, 4, 4]


def snapshots(every_s: float = 0.0) -> Server:
    """An address that gives the newest picture of a camera and closes."""
    count = [0]

    def serve(client: socket.socket) -> None:
        if not client.recv(4096):
            return
        count[0] += 1
        data = PICTURES[count[0] % len(PICTURES)]
        time.sleep(every_s)
        client.sendall(
            b"HTTP/1.0 200 OK\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n%s"
            % (len(data), data)
        )

    return Server(serve)


@pytest.mark.fault("C16")
def test_an_address_for_single_pictures_is_fetched_every_second_and_logged_once(
    opened: Callable[..., LiveSource], caplog: pytest.LogCaptureFixture
):
    caplog.set_level(logging.INFO)
    server = snapshots()
    start = time.monotonic()
    source = opened(f"http://127.0.0.1:{server.port}/snapshot.jpg")
    settled(source, caplog, 5)
    assert server.connections <= time.monotonic() - start + 2
    assert source.state == "ok"
    assert source.patience_s > 3, "no record may say in between that the picture is missing"
    assert caplog.text.count("gives one picture a connection; one is fetched every 1 s") == 1
    server.close()


@pytest.mark.fault("C16")
def test_a_snapshot_camera_that_leaves_is_missed_and_found_again(
    opened: Callable[..., LiveSource], caplog: pytest.LogCaptureFixture
):
    caplog.set_level(logging.INFO)
    server = snapshots()
    source = opened(f"http://127.0.0.1:{server.port}/snapshot.jpg")
    frames(source, 2)
    server.close()
    read_until(source, lambda _: source.state != "ok")
    assert source.state == "no_device"


def settled(source: LiveSource, caplog: pytest.LogCaptureFixture, pictures: int) -> None:
    """Wait until so many pictures in a row came without a word in the log."""
    in_a_row = 0
    lines = len(caplog.records)
    deadline = time.monotonic() + PATIENCE_S
    while in_a_row < pictures:
        assert time.monotonic() < deadline, (
            f"still a line a picture: {[r.message for r in caplog.records]}"
        )
        frame = source.read(0.05)
        if len(caplog.records) > lines:
            in_a_row = 0
            lines = len(caplog.records)
        in_a_row += frame is not None


@pytest.mark.fault("C16")
def test_a_stream_with_a_picture_every_now_and_then_is_slow_and_not_broken(
    opened: Callable[..., LiveSource],
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
):
    """Every limit is a tenth of the real one, and the camera ten times as fast: 6 s are 0.6 s."""
    caplog.set_level(logging.INFO)
    monkeypatch.setattr(stream, "LIMIT_S", 0.4)
    monkeypatch.setattr(pace, "SILENT_S", 0.3)
    monkeypatch.setattr(live, "BACKOFF_FIRST_S", 0.1)
    server = Server(multipart(0.6))
    source = opened(f"http://127.0.0.1:{server.port}/stream")
    settled(source, caplog, 6)
    assert source.state == "ok"
    assert server.connections <= 4
    server.close()


@pytest.mark.fault("C16")
def test_a_camera_that_often_pauses_is_frozen_twice_and_then_slow(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(pace, "SILENT_S", 0.1)
    caplog.set_level(logging.INFO)

    class Pausing:
        count = 0

        def grab(self) -> Frame:
            time.sleep(0.3)
            self.count += 1
            return Frame(
                np.full((2, 2), self.count % 251, np.uint8), "grey", time.monotonic(), time.time()
            )

        def close(self) -> None:
            pass

    source = LiveSource("x", Pausing, CameraConfig())
    source.start()
    settled(source, caplog, 6)
    assert source.patience_s >= 0.5, "no record may say in between that the picture is missing"
    assert any("sends a picture every" in r.message for r in caplog.records)
    source.close()


@pytest.mark.fault("P1")
def test_patience_with_a_slow_camera_does_not_delay_the_end(tmp_path: Path, tiny_bundle: Path):
    camera = {"source": f"http://127.0.0.1:{free_port()}/x", "fps": 0.02}
    file = write_config(tmp_path / "c.yaml", tiny_bundle, camera=camera)
    with Daemon(tmp_path, "--config", file, "--output", tmp_path / "out.jsonl") as daemon:
        daemon.wait_for("READY=1")
        assert daemon.stop(within_s=5) == 0


def test_who_says_that_a_camera_is_slow_is_believed():
    source = open_source(CameraConfig(source="http://h/x", fps=0.05))
    assert source.patience_s == 60
    assert Stream("http://h/x", CameraConfig(fps=0.05)).limit_s == 60
