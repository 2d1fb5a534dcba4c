"""The present picture reaches a real broker: a whole JPEG, masked, and cleared when it is off."""

from __future__ import annotations

import json
import subprocess
import time
from pathlib import Path

import cv2
import numpy as np
import pytest

from edge_runtime.camera.jpeg import JpegEncoder
from edge_runtime.config import MqttConfig
from edge_runtime.errors import DataError
from edge_runtime.records import Frame
from edge_runtime.sinks.mqtt.discovery import discovery_message, read_former
from edge_runtime.sinks.mqtt.sink import MqttSink
from edge_runtime.sinks.mqtt.topics import Topics
from tests.daemon import Daemon, wait_until, write_config
from tests.doubles.mjpeg_camera import MjpegCamera
from tests.doubles.mosquitto import Broker
from tests.unit.sinks.mqtt.test_sink import NAMES, connected, of

FRAME = Frame(np.full((48, 64, 3), (10, 200, 30), np.uint8), "bgr", 0.0, 0.0)
TOPIC = "edge-label/pi/picture"


def retained(broker: Broker, topic: str, timeout_s: int = 1) -> bytes:
    """The retained message of a topic; empty where there is none."""
    command = ["mosquitto_sub", "-h", "127.0.0.1", "-p", str(broker.port), "-t", topic]
    command += ["-C", "1", "-W", str(timeout_s), "-F", "%x", "--retained-only"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    return bytes.fromhex(done.stdout.strip())


def open_sink(broker: Broker, *, discovery: bool = True) -> MqttSink:
    config = MqttConfig(host="127.0.0.1", port=broker.port, device="pi", discovery=discovery)
    sink = MqttSink(config, JpegEncoder())
    sink.write(of(None), NAMES)
    wait_until(lambda: connected(sink))
    return sink


@pytest.mark.fault("K4")
def test_the_picture_is_a_jpeg_that_a_later_subscriber_gets_too(broker: Broker):
    sink = open_sink(broker)
    sink.write(of("tunnel"), NAMES, FRAME)
    jpeg = wait_until(lambda: retained(broker, TOPIC))
    pixels = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR)
    assert np.abs(pixels.astype(int) - FRAME.data).max() < 6
    sink.close()


@pytest.mark.fault("K4")
@pytest.mark.parametrize("discovery", [True, False])
def test_a_picture_of_a_former_run_goes_when_it_is_off(broker: Broker, discovery: bool):
    """Without discovery too: who switches pictures off does not want one to stay."""
    first = open_sink(broker, discovery=discovery)
    first.write(of("tunnel"), NAMES, FRAME)
    wait_until(lambda: retained(broker, TOPIC))
    first.close()

    config = MqttConfig(host="127.0.0.1", port=broker.port, device="pi", discovery=discovery)
    second = MqttSink(config)

    def is_gone() -> bool:
        second.write(of("tunnel"), NAMES)
        return retained(broker, TOPIC) == b""

    wait_until(is_gone)
    second.close()


def test_home_assistant_gets_a_camera_beside_the_sensors_and_only_if_asked():
    topics = Topics.of(MqttConfig(host="h", device="pi"))
    with_picture = discovery_message(topics, {}, picture=True)
    assert with_picture["components"]["picture"] == {
        "platform": "camera",
        "name": "Picture",
        "topic": TOPIC,
        "unique_id": "edge-label-pi-picture",
    }
    former = read_former(json.dumps(with_picture).encode(), "pi")
    assert former is not None
    assert TOPIC in former.topics
    assert former.components["picture"] == "camera"
    assert "picture" not in discovery_message(topics, {})["components"]


def test_a_slow_broker_gets_no_second_picture_before_it_has_the_first(broker: Broker):
    sink = open_sink(broker)
    encoded = []
    sink._to_jpeg = lambda frame: encoded.append(frame) or b"jpeg"
    broker.freeze()
    for _ in range(20):
        sink.write(of("tunnel"), NAMES, FRAME)
    assert len(encoded) == 1
    broker.thaw()
    wait_until(lambda: sink._picture.is_published())
    sink.write(of("tunnel"), NAMES, FRAME)
    assert len(encoded) == 2
    sink.close()


def test_a_broken_frame_is_no_picture_and_no_loss(broker: Broker):
    def broken(_frame: Frame) -> bytes:
        raise DataError("broken JPEG from the camera")

    sink = open_sink(broker)
    sink._to_jpeg = broken
    sink.write(of("tunnel"), NAMES, FRAME)
    assert sink._picture is None
    sink.close()


@pytest.mark.fault("K4", "G3")
def test_the_daemon_publishes_masked_pictures_and_no_more_than_asked(
    broker: Broker, tmp_path: Path, tiny_bundle: Path
):
    left = [[[0, 0], [0.5, 0], [0.5, 1], [0, 1]]]
    mqtt = {"host": "127.0.0.1", "port": broker.port, "device": "pi", "picture_s": 2}
    with MjpegCamera() as camera:
        file = write_config(
            tmp_path / "c.yaml",
            tiny_bundle,
            camera={"source": camera.url},
            privacy={"masks": left},
            mqtt=mqtt,
        )
        with Daemon(tmp_path, "--config", file, "--output", tmp_path / "out.jsonl") as daemon:
            jpeg = wait_until(lambda: retained(broker, TOPIC))
            start = time.monotonic()
            got = broker.listen_bytes(TOPIC, 5)
            lasted_s = time.monotonic() - start
            assert daemon.stop() == 0

    pixels = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR)
    width = pixels.shape[1]
    assert pixels[:, : width // 2 - 8].max() < 16
    assert pixels[:, width // 2 + 8 :].mean() > 20
    assert 2 <= len(got) <= 2 + lasted_s / 2


def test_without_the_key_no_picture_leaves_the_machine(
    broker: Broker, tmp_path: Path, tiny_bundle: Path
):
    mqtt = {"host": "127.0.0.1", "port": broker.port, "device": "pi"}
    with MjpegCamera() as camera:
        source = {"source": camera.url}
        file = write_config(tmp_path / "c.yaml", tiny_bundle, camera=source, mqtt=mqtt)
        with Daemon(tmp_path, "--config", file, "--output", tmp_path / "out.jsonl") as daemon:
            wait_until(lambda: retained(broker, "edge-label/pi/state"))
            messages = broker.listen_bytes("#", 3)
            assert daemon.stop() == 0
    assert messages
    assert not any(message.startswith(b"\xff\xd8") for message in messages)
