"""A real RTSP server drops and returns; over TCP or UDP, as configured, its pictures are fresh."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from edge_runtime.camera import live, open_source, stream
from edge_runtime.camera.live import LiveSource
from edge_runtime.camera.stream import Stream
from edge_runtime.config import CameraConfig
from tests.daemon import Daemon, records_of, wait_until, write_config
from tests.doubles.ports import free_port
from tests.doubles.rtsp_server import RtspServer, age_ms, need_rtsp_server
from tests.live_camera import read_until


@pytest.fixture
def server() -> Iterator[RtspServer]:
    need_rtsp_server()
    with RtspServer() as running:
        yield running


def udp_sockets() -> int:
    """How many UDP sockets this process has open."""
    lines = Path("/proc/net/udp").read_text().splitlines()[1:]
    known = {f"socket:[{line.split()[9]}]" for line in lines}
    mine = []
    for entry in Path("/proc/self/fd").iterdir():
        try:
            mine.append(str(entry.readlink()))
        except OSError:
            continue
    return len(known.intersection(mine))


@pytest.mark.fault("C22")
@pytest.mark.parametrize("transport", ["tcp", "udp"])
def test_an_rtsp_camera_drops_and_returns(
    server: RtspServer, transport: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(live, "BACKOFF_FIRST_S", 0.2)
    monkeypatch.setattr(stream, "LIMIT_S", 3.0)
    before = udp_sockets()
    config = CameraConfig(source=server.url, rtsp_transport=transport)  # type: ignore[arg-type]
    source = open_source(config)
    assert isinstance(source, LiveSource)
    try:
        read_until(source, lambda _: source.state == "ok")
        assert (udp_sockets() > before) == (transport == "udp")
        server.stop()
        read_until(source, lambda _: source.state == "no_device")
        server.start()
        read_until(source, lambda _: source.state == "ok")
    finally:
        source.close()


@pytest.mark.fault("C22")
def test_the_first_picture_is_what_the_camera_sees_now(server: RtspServer):
    """FFmpeg looks at a second of pictures to learn the format, and would hand them out first.

    The freshest of three: a busy machine may make one late, but never early.
    """
    ages = []
    for _ in range(3):
        capture = Stream(server.url, CameraConfig(source=server.url)).connect()
        ok, picture = capture.read()
        assert ok
        ages.append(age_ms(picture))
        capture.release()
    assert min(ages) < 600, ages


def test_the_environment_is_as_it_was_after_a_stream_was_opened(
    server: RtspServer, monkeypatch: pytest.MonkeyPatch
):
    """A video that is opened later must not get the options of a stream; a user's own stay."""
    monkeypatch.delenv(stream._OPTIONS, raising=False)
    Stream(server.url, CameraConfig(source=server.url)).connect().release()
    assert stream._OPTIONS not in os.environ
    monkeypatch.setenv(stream._OPTIONS, "rtsp_transport;udp")
    Stream(server.url, CameraConfig(source=server.url)).connect().release()
    assert os.environ[stream._OPTIONS] == "rtsp_transport;udp"


def test_a_silent_udp_camera_is_told_about_tcp():
    url = f"rtsp://127.0.0.1:{free_port()}/cam"
    with pytest.raises(Exception, match=r"or set camera\.rtsp_transport: tcp"):
        Stream(url, CameraConfig(source=url, rtsp_transport="udp")).connect()


@pytest.mark.fault("C22")
def test_the_daemon_labels_an_rtsp_camera_and_misses_it_calmly(
    server: RtspServer, tmp_path: Path, tiny_bundle: Path
):
    file = write_config(tmp_path / "c.yaml", tiny_bundle, camera={"source": server.url})
    output = tmp_path / "out.jsonl"
    with Daemon(tmp_path, "--config", file, "--output", output) as daemon:
        wait_until(lambda: any(record["labels"] for record in records_of(output)))
        server.stop()
        wait_until(lambda: records_of(output)[-1]["state"] == "stale")
        server.start()
        wait_until(lambda: "delivering frames again" in daemon.log)
        assert daemon.stop() == 0
    lines = [line for line in daemon.log.splitlines() if "camera" in line]
    assert len(lines) <= 4, daemon.log
