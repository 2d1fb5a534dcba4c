"""Against a real Mosquitto: retained messages that are no longer true go, those of others stay."""

from __future__ import annotations

import dataclasses
import json
import logging
import signal
import subprocess
from pathlib import Path

import pytest

from edge_runtime.config import Config, MqttConfig
from edge_runtime.sinks.mqtt.sink import MqttSink
from tests.daemon import Daemon, wait_until, write_config
from tests.doubles.mosquitto import Broker
from tests.unit.sinks.mqtt.test_sink import of

PI = MqttConfig(host="127.0.0.1", device="pi")
CONFIG = "homeassistant/device/edge-label-pi/config"
ALWAYS = {"edge-label/pi/status", "edge-label/pi/state", CONFIG}


def retained(broker: Broker) -> dict[str, str]:
    """Everything that a program which connects now is told."""
    return dict(broker.listen(1000, "--retained-only", timeout_s=1))


def publish(broker: Broker, topic: str, payload: str) -> None:
    """What somebody else retains."""
    command = [
        "mosquitto_pub",
        "-h",
        "127.0.0.1",
        "-p",
        str(broker.port),
        "-r",
        "-t",
        topic,
        "-m",
        payload,
    ]
    subprocess.run(command, check=True)


class Camera:
    """A sink whose records go on coming for as long as anything is waited for."""

    def __init__(self, broker: Broker, config: MqttConfig, *names: str) -> None:
        self.broker = broker
        self.names = names
        self.sink = MqttSink(dataclasses.replace(config, port=broker.port))

    def write(self) -> None:
        self.sink.write(of(None, labels_id=f"sha256:{self.names}"), self.names)

    def leaves(self, *topics: str) -> dict[str, str]:
        """Wait until these topics are retained and no others."""

        def there() -> dict[str, str] | None:
            self.write()
            found = retained(self.broker)
            return found if set(found) == set(topics) else None

        wait_until(lambda: (self.write(), self.sink._link.connected)[1])
        found = wait_until(there)
        return dict(found)

    def reload(self, config: Config) -> None:
        self.sink.retire(config)
        self.sink.close()


def label_topics(*names: str) -> set[str]:
    return {f"edge-label/pi/label/{name}" for name in names}


def binary_sensors(payload: str) -> list[str]:
    components = json.loads(payload)["components"].values()
    return [part["name"] for part in components if part["platform"] == "binary_sensor"]


@pytest.mark.fault("N7")
def test_a_label_that_leaves_the_set_takes_its_topic_and_its_sensor_with_it(broker: Broker):
    camera = Camera(broker, PI, "cat", "dog")
    camera.leaves(*ALWAYS, *label_topics("cat", "dog"))
    listener = [
        "mosquitto_sub",
        "-h",
        "127.0.0.1",
        "-p",
        str(broker.port),
        "-t",
        CONFIG,
        "-C",
        "3",
        "-W",
        "30",
    ]
    with subprocess.Popen(listener, stdout=subprocess.PIPE, text=True) as hears:
        assert hears.stdout is not None
        assert binary_sensors(hears.stdout.readline()) == ["cat", "dog"]
        camera.names = ("cat",)
        found = camera.leaves(*ALWAYS, *label_topics("cat"))
        farewell, last = hears.communicate(timeout=60)[0].splitlines()
    assert json.loads(farewell)["components"]["label_dog"] == {"platform": "binary_sensor"}
    assert "label_dog" not in json.loads(last)["components"]
    assert binary_sensors(found[CONFIG]) == ["cat"]
    camera.sink.close()


@pytest.mark.fault("N7")
def test_a_restart_clears_what_the_former_run_published_and_nothing_of_others(broker: Broker):
    others = {
        "homeassistant/device/edge-label-other/config": json.dumps(
            {"origin": {"name": "edge-label"}}
        ),
        "edge-label/other/label/dog": "ON",
        "edge-label/pi/note": "written by hand",
        "zigbee/pi/state": "on",
    }
    for topic, payload in others.items():
        publish(broker, topic, payload)
    before = Camera(broker, PI, "cat", "dog", "bird")
    before.leaves(*ALWAYS, *label_topics("cat", "dog", "bird"), *others)
    before.sink.close()
    after = Camera(broker, PI, "cat")
    found = after.leaves(*ALWAYS, *label_topics("cat"), *others)
    assert binary_sensors(found[CONFIG]) == ["cat"]
    assert {topic: found[topic] for topic in others} == others
    after.sink.close()


def test_a_set_that_outgrew_its_topics_leaves_none(broker: Broker):
    before = Camera(broker, PI, "cat", "dog")
    before.leaves(*ALWAYS, *label_topics("cat", "dog"))
    before.names = tuple(f"label {i}" for i in range(65))
    found = before.leaves(*ALWAYS)
    assert binary_sensors(found[CONFIG]) == []
    before.sink.close()


CHANGES = {
    "device": (
        {"device": "porch"},
        "edge-label/porch",
        "homeassistant/device/edge-label-porch/config",
    ),
    "topic": ({"topic": "house/cams"}, "house/cams/pi", CONFIG),
    "discovery_prefix": (
        {"discovery_prefix": "ha"},
        "edge-label/pi",
        "ha/device/edge-label-pi/config",
    ),
    "discovery": ({"discovery": False}, "edge-label/pi", None),
}


def all_topics(base: str, config: str | None, *names: str) -> set[str]:
    own = {f"{base}/status", f"{base}/state", *(f"{base}/label/{name}" for name in names)}
    return own | {config} if config else own


@pytest.mark.parametrize("key", CHANGES)
def test_a_reload_with_another_name_leaves_nothing_under_the_old_one(broker: Broker, key: str):
    settings, base, config = CHANGES[key]
    before = Camera(broker, PI, "cat", "dog")
    before.leaves(*ALWAYS, *label_topics("cat", "dog"))
    changed = dataclasses.replace(PI, port=broker.port, **settings)
    before.reload(Config(mqtt=changed))
    after = Camera(broker, changed, "cat")
    after.leaves(*all_topics(base, config, "cat"))
    after.sink.close()


@pytest.mark.parametrize("key", ["topic", "discovery_prefix", "discovery"])
def test_a_restart_with_another_name_finds_the_old_one_by_its_discovery_message(
    broker: Broker, key: str
):
    settings, base, config = CHANGES[key]
    before = Camera(broker, PI, "cat", "dog")
    before.leaves(*ALWAYS, *label_topics("cat", "dog"))
    before.sink.close()
    after = Camera(broker, dataclasses.replace(PI, **settings), "cat")
    after.leaves(*all_topics(base, config, "cat"))
    after.sink.close()


def test_a_reload_without_mqtt_leaves_nothing(broker: Broker):
    before = Camera(broker, PI, *(f"label {i}" for i in range(64)))
    before.leaves(*ALWAYS, *label_topics(*(f"label-{i}" for i in range(64))))
    before.reload(Config())
    wait_until(lambda: retained(broker) == {})


def test_an_end_without_a_reload_leaves_everything_but_the_camera_offline(broker: Broker):
    camera = Camera(broker, PI, "cat")
    camera.leaves(*ALWAYS, *label_topics("cat"))
    camera.sink.close()
    found = retained(broker)
    assert set(found) == {*ALWAYS, *label_topics("cat")}
    assert found["edge-label/pi/status"] == "offline"


def test_a_reload_while_the_broker_is_away_says_what_stays(
    broker: Broker, caplog: pytest.LogCaptureFixture
):
    camera = Camera(broker, PI, "cat")
    camera.leaves(*ALWAYS, *label_topics("cat"))
    broker.stop()
    wait_until(lambda: not camera.sink._link.connected)
    with caplog.at_level(logging.WARNING):
        camera.reload(Config())
    assert "what was published below edge-label/pi stays there" in caplog.text


def test_the_daemon_clears_the_old_device_at_sighup(
    tiny_bundle: Path, tmp_path: Path, broker: Broker
):
    def configure(device: str) -> Path:
        mqtt = {"host": "127.0.0.1", "port": broker.port, "device": device}
        return write_config(tmp_path / "c.yaml", tiny_bundle, mqtt=mqtt)

    with Daemon(tmp_path, "--config", configure("old")) as daemon:
        daemon.wait_for("READY=1")
        wait_until(lambda: "edge-label/old/state" in retained(broker))
        configure("new")
        daemon.process.send_signal(signal.SIGHUP)
        wait_until(lambda: "edge-label/new/state" in retained(broker))
        assert not [
            topic for topic in retained(broker) if "/old/" in topic or "edge-label-old" in topic
        ]
        assert daemon.stop() == 0
