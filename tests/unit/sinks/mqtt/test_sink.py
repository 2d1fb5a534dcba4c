"""Against a real Mosquitto: retained state, discovery, last will; a broker down, slow, refusing."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from edge_runtime.config import Config, MqttConfig
from edge_runtime.errors import ConfigError
from edge_runtime.records import LabelledFrame, LabelScore
from edge_runtime.sinks.mqtt import sink as mqtt_module
from edge_runtime.sinks.mqtt.link import BACKOFF_MAX_S, Link
from edge_runtime.sinks.mqtt.sink import MqttSink
from edge_runtime.sinks.thread import SinkThread
from edge_runtime.system import strict_yaml
from tests.commands import need, need_mosquitto
from tests.daemon import REPOSITORY, wait_until
from tests.doubles.mosquitto import Broker
from tests.doubles.ports import free_port
from tests.unit.test_records import record

NAMES = ("snowy road", "tunnel")


def of(on: str | None, seq: int = 0, **changes: object):
    labels = tuple(LabelScore(name, 0.9 if name == on else 0.1, 0.1, name == on) for name in NAMES)
    return record(labels=labels, seq=seq, state="ok" if on else "unknown", **changes)


def connect(broker: Broker | int, names=NAMES, **settings: object) -> MqttSink:
    port = broker if isinstance(broker, int) else broker.port
    config = MqttConfig(host="127.0.0.1", port=port, device="pi", **settings)
    sink = MqttSink(config)
    sink.write(of(None), tuple(names))  # the first record starts the connection
    return sink


class Everything:
    """A chooser for tests: every record, at any pace."""

    def choose(self, labelled):
        return labelled.record, NAMES

    def dropped(self, *item) -> None:
        pass


def connected(sink: MqttSink) -> bool:
    return sink._link.connected


@pytest.fixture(autouse=True)
def _programs():
    need_mosquitto()


def test_a_subscriber_that_comes_later_gets_status_state_labels_and_discovery(broker: Broker):
    sink = connect(broker)
    wait_until(lambda: connected(sink))
    sink.write(of("tunnel"), NAMES)
    got = dict(broker.listen(5))
    assert got["edge-label/pi/status"] == "online"
    assert got["edge-label/pi/state"] == of("tunnel").to_json()
    assert (got["edge-label/pi/label/tunnel"], got["edge-label/pi/label/snowy-road"]) == (
        "ON",
        "OFF",
    )
    discovery = json.loads(got["homeassistant/device/edge-label-pi/config"])
    assert discovery["device"]["identifiers"]
    assert discovery["origin"]["name"] == "edge-label"
    assert discovery["availability"] == [{"topic": "edge-label/pi/status"}]
    components = discovery["components"].values()
    assert {c["state_topic"] for c in components if c["platform"] == "binary_sensor"} <= set(got)
    assert len({c["unique_id"] for c in components}) == len(components)
    assert all(c["platform"] in ("sensor", "binary_sensor") for c in components)
    sink.close()
    assert dict(broker.listen(5))["edge-label/pi/status"] == "offline"


def test_only_changes_are_published_and_the_interval_repeats_them(
    broker: Broker, monkeypatch: pytest.MonkeyPatch
):
    clock = SimpleNamespace(s=1000.0)
    monkeypatch.setattr(mqtt_module, "time", SimpleNamespace(monotonic=lambda: clock.s))
    sink = connect(broker, every_s=1.0, discovery=False)
    wait_until(lambda: connected(sink))
    published: list[int] = []
    monkeypatch.setattr(sink, "_publish_record", lambda record: published.append(record.seq))
    for seq in range(120):
        sink.write(of("tunnel" if seq < 30 else "snowy road", seq), NAMES)
        clock.s += 1 / 64
    sink.close()
    assert published == [0, 30, 94], "the first, the change, and again one second after it"


def test_a_killed_process_is_offline_by_its_last_will(broker: Broker):
    script = (
        "from tests.unit.sinks.mqtt.test_sink import *\n"
        f"sink = connect({broker.port})\n"
        "while True:\n"
        "    sink.write(of('tunnel'), NAMES)\n"
        "    time.sleep(0.05)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", script], cwd=REPOSITORY)
    try:
        wait_until(lambda: broker.listen(1, topic="edge-label/pi/status", timeout_s=5))
    finally:
        process.kill()
        process.wait()
    wait_until(
        lambda: (
            broker.listen(1, topic="edge-label/pi/status") == [("edge-label/pi/status", "offline")]
        )
    )


@pytest.mark.fault("N1")
def test_a_broker_that_is_down_costs_nothing_and_is_found_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    caplog.set_level(logging.INFO)
    port = free_port()
    sink = connect(port)
    thread = SinkThread(sink, lossless=False, chooser=Everything())
    start = time.monotonic()
    for seq in range(1000):
        thread.put(LabelledFrame(of("tunnel", seq)))
    # On a busy machine; a connection attempt alone takes longer.
    assert time.monotonic() - start < 3
    wait_until(lambda: "does not answer" in caplog.text)
    with Broker(tmp_path, port=port) as broker:
        wait_until(lambda: connected(sink))
        thread.put(LabelledFrame(of("snowy road", 1001)))
        assert json.loads(dict(broker.listen(5))["edge-label/pi/state"])["seq"] == 1001
        thread.close()
    assert caplog.text.count("does not answer") == 1


def test_a_restarted_broker_that_forgot_everything_gets_it_all_again(tmp_path: Path):
    with Broker(tmp_path) as broker:
        sink = connect(broker)
        wait_until(lambda: connected(sink))
        sink.write(of("tunnel", 1), NAMES)
        assert len(broker.listen(5)) == 5
        broker.stop()
        wait_until(lambda: not connected(sink))
        sink.write(of("snowy road", 2), NAMES)
        broker.start()
        wait_until(lambda: connected(sink))
        sink.write(of("snowy road", 3), NAMES)
        got = dict(broker.listen(5))
        assert json.loads(got["edge-label/pi/state"])["seq"] == 3
        assert got["edge-label/pi/label/snowy-road"] == "ON"
        assert "homeassistant/device/edge-label-pi/config" in got
        sink.close()


@pytest.mark.fault("N1")
def test_a_frozen_broker_blocks_nobody_and_the_queue_stays_bounded(
    broker: Broker, caplog: pytest.LogCaptureFixture
):
    thread = SinkThread(sink := connect(broker, queue=50), lossless=False, chooser=Everything())
    wait_until(lambda: connected(sink))
    thread.put(LabelledFrame(of("tunnel", 0)))
    assert len(broker.listen(5)) == 5
    broker.freeze()
    for seq in range(1, 2001):
        start = time.monotonic()
        thread.put(LabelledFrame(of(NAMES[seq % 2], seq)))
        assert time.monotonic() - start < 1
        if seq % 100 == 0:
            time.sleep(0.02)
    wait_until(lambda: thread._queue.empty())
    assert len(sink._link._client._out_messages) <= 50
    assert thread.lost > 500
    assert caplog.text.count("is slow") == 1
    broker.thaw()
    wait_until(lambda: not sink._link._client._out_messages)
    for on in NAMES:
        thread.put(LabelledFrame(of(on, 9999)))
    wait_until(
        lambda: (
            json.loads(dict(broker.listen(4, topic="edge-label/#"))["edge-label/pi/state"])["seq"]
            == 9999
        )
    )
    thread.close()


def test_closing_while_the_broker_is_frozen_takes_no_longer_than_promised(broker: Broker):
    thread = SinkThread(sink := connect(broker), lossless=False, chooser=Everything())
    wait_until(lambda: connected(sink))
    broker.freeze()
    thread.put(LabelledFrame(of("tunnel")))
    start = time.monotonic()
    thread.close()
    assert time.monotonic() - start < 5


def test_a_wrong_password_is_said_once_and_the_right_one_works(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
):
    caplog.set_level(logging.INFO)
    need("mosquitto_passwd", "mosquitto")
    passwords, credentials = tmp_path / "passwords", tmp_path / "credentials"
    subprocess.run(["mosquitto_passwd", "-b", "-c", str(passwords), "pi", "right:one"], check=True)
    credentials.touch(0o600)
    with Broker(tmp_path, "allow_anonymous false", f"password_file {passwords}") as broker:
        credentials.write_text("pi:wrong\n")
        refusals: list[object] = []
        told = Link._on_connect
        monkeypatch.setattr(Link, "_on_connect", lambda *args: (refusals.append(args), told(*args)))
        sink = connect(broker, credentials_file=str(credentials))
        wait_until(lambda: len(refusals) >= 3)
        assert caplog.text.count("refuses us") == 1
        sink.close()
        credentials.write_text("pi:right:one\n")
        sink = connect(broker, credentials_file=str(credentials))
        wait_until(lambda: connected(sink))
        sink.close()


def test_tls_verifies_the_broker(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    need("openssl", "openssl")
    ca, key = tmp_path / "ca.pem", tmp_path / "key.pem"
    make = (
        f"openssl req -x509 -newkey rsa:2048 -nodes -keyout {key} -out {ca} -days 1 "
        "-subj /CN=localhost"
    )
    names = ["-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
    subprocess.run([*make.split(), *names], check=True, capture_output=True)
    with Broker(tmp_path, "allow_anonymous true", f"certfile {ca}", f"keyfile {key}") as broker:
        trusting = connect(broker, tls=True, ca_file=str(ca))
        wait_until(lambda: connected(trusting))
        trusting.write(of("tunnel"), NAMES)
        got = broker.listen(5, "--cafile", str(ca))
        assert ("edge-label/pi/status", "online") in got
        trusting.close()
        doubting = connect(broker, tls=True)
        wait_until(lambda: "mqtt" in caplog.text)
        assert not connected(doubting)
        doubting.close()


def test_a_large_label_set_gets_no_topic_a_label(broker: Broker):
    sink = connect(broker, names=[f"label {i}" for i in range(65)])
    wait_until(lambda: connected(sink))
    sink.write(of("tunnel"), NAMES)
    got = dict(broker.listen(3))
    assert set(got) == {
        "edge-label/pi/status",
        "edge-label/pi/state",
        "homeassistant/device/edge-label-pi/config",
    }
    sink.close()


def test_a_new_label_set_is_announced(broker: Broker):
    sink = connect(broker, names=["old"])
    wait_until(lambda: connected(sink))
    sink.write(of(None), ("old",))
    sink.write(of("tunnel", labels_id="sha256:11"), NAMES)
    wait_until(lambda: not sink._link._client._out_messages)
    got = dict(broker.listen(10, timeout_s=1))
    components = json.loads(got["homeassistant/device/edge-label-pi/config"])["components"].values()
    assert [c["name"] for c in components if c["platform"] == "binary_sensor"] == list(NAMES)
    sink.close()


def test_a_certificate_that_is_not_there_is_named():
    with pytest.raises(ConfigError, match=r"mqtt\.ca_file: /none\.pem is not there"):
        MqttSink(MqttConfig(host="localhost", tls=True, ca_file="/none.pem"))


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("mqtt:\n", "'host' is missing in mqtt"),
        ("mqtt: {host: h, topic: 'a/#'}", "mqtt.topic may hold"),
        ("mqtt: {host: h, device: 'a b'}", "mqtt.device may hold"),
        ("mqtt: {host: h, ca_file: x}", "without tls"),
        ("mqtt: {host: h, port: 0}", "between 1 and 65535"),
        ("mqtt: {host: h, pasword: x}", "unknown key 'pasword'"),
    ],
)
def test_a_wrong_section_is_one_clear_line(text: str, problem: str):
    with pytest.raises(ConfigError, match=problem):
        strict_yaml.parse(text, "x.yaml", Config)


def test_without_paho_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "paho.mqtt.client", None)
    with pytest.raises(ConfigError, match=r"pip install 'edge-label\[mqtt\]'"):
        connect(1)


def test_the_backoff_is_capped():
    sink = connect(free_port())
    assert sink._link._client._reconnect_max_delay == BACKOFF_MAX_S
    sink.close()
