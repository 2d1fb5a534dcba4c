"""Records to an MQTT broker, with Home Assistant device discovery.

Topics, all retained, QoS 1, below ``<topic>/<device>/``:

- ``status``: ``online``, or ``offline`` by the broker's last will
- ``state``: the newest record, as in the JSON lines, when labels or state change (at most every ``MIN_INTERVAL_S``)
  and every ``every_s`` seconds
- ``label/<name>``: ``ON`` or ``OFF`` for every label of a set of at most ``MAX_LABEL_TOPICS``

While the broker is away nothing piles up: when it is back, the next record is published. While it is slow, paho's
queue takes at most ``queue`` messages; what does not fit is counted as lost, and the next record tries again.
"""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from edge_runtime import __version__
from edge_runtime.config import MqttConfig, plain_name
from edge_runtime.digest import sha256_hex
from edge_runtime.errors import ConfigError
from edge_runtime.records import Frame, LabelRecord
from edge_runtime.secrecy import shown, shown_file

log = logging.getLogger("edge_label.mqtt")

MAX_LABEL_TOPICS = 64
MIN_INTERVAL_S = 0.25
BACKOFF_MAX_S = 30
KEEPALIVE_S = 30
CONNECT_TIMEOUT_S = 5.0
FLUSH_S = 1.0


class MqttSink:
    """One broker. Raises ConfigError when paho-mqtt, the credentials or the certificates are missing or wrong.

    ``label_names`` gives the current label set; it is asked again whenever a record's ``labels_id`` changes.
    """

    name = "mqtt"

    def __init__(self, config: MqttConfig, label_names: Callable[[], Sequence[str]]) -> None:
        self._config = config
        self._label_names = label_names
        self._base = f"{config.topic}/{config.device}"
        self._topics: dict[str, str] = {}
        self._labels_id = ""
        self._announced = False
        self._published_key: object = None
        self._published_on: dict[str, bool] = {}
        self._due = self._not_before = 0.0
        self._refused = ""
        self._client = self._make_client()
        self._port = config.port or (8883 if config.tls else 1883)
        self._broker = shown(f"{config.host}:{self._port}")
        self._started = False

    def _make_client(self) -> Any:
        try:
            from paho.mqtt.client import Client
            from paho.mqtt.enums import CallbackAPIVersion
        except ImportError:
            raise ConfigError("mqtt: paho-mqtt is not installed; pip install 'edge-label[mqtt]'") from None
        config = self._config
        client = Client(CallbackAPIVersion.VERSION2, client_id=f"edge-label-{config.device}")
        client.connect_timeout = CONNECT_TIMEOUT_S
        client.reconnect_delay_set(1, BACKOFF_MAX_S)
        client.max_queued_messages_set(config.queue)
        client.will_set(f"{self._base}/status", "offline", qos=1, retain=True)
        if config.credentials_file:
            client.username_pw_set(*read_credentials(Path(config.credentials_file)))
        if config.tls:
            for key in ("ca_file", "cert_file", "key_file"):  # the library does not say which
                path = getattr(config, key)
                if path and not os.access(path, os.R_OK):
                    raise ConfigError(
                        f"mqtt.{key}: {shown_file(path)} is not there, or may not be read; check path and rights"
                    )
            try:
                client.tls_set(config.ca_file, config.cert_file, config.key_file)
            except (OSError, ValueError) as error:
                raise ConfigError(
                    f"mqtt: a certificate file cannot be used: {error}; check ca_file, cert_file"
                ) from None
        client.on_connect = self._on_connect
        client.on_disconnect = self._on_disconnect
        client.on_connect_fail = self._on_connect_fail
        return client

    def wants(self, record: LabelRecord, frame: Frame | None) -> bool:
        """Whether there is something to publish, or to set up, and the last time is long enough ago."""
        now = time.monotonic()
        if now < self._not_before:
            return False
        if self._announced and now < self._due and _key(record) == self._published_key:
            return False
        self._not_before = now + MIN_INTERVAL_S
        return True

    def write(self, record: LabelRecord, frame: Frame | None) -> None:
        """Publish the record if something changed, or if it is time again."""
        now = time.monotonic()
        if not self._started:  # not earlier: a reload makes the new sink before it closes the old, of the same name
            self._started = True
            self._client.connect_async(self._config.host, self._port, KEEPALIVE_S)
            self._client.loop_start()
        if record.labels_id != self._labels_id:
            self._learn_labels(record)
        if not self._client.is_connected():
            return
        if not self._announced:
            self._announce()
        key = _key(record)
        if key != self._published_key or now >= self._due:
            self._due = now + self._config.every_s
            self._publish_record(record)
            self._published_key = key

    def close(self) -> None:
        """Say goodbye if the broker listens; it does not hold up the end for more than a second."""
        if self._client.is_connected():
            goodbye = self._client.publish(f"{self._base}/status", "offline", qos=1, retain=True)
            try:
                goodbye.wait_for_publish(FLUSH_S)
            except (RuntimeError, ValueError):  # the connection went, or the queue is full: the last will says it
                pass
        self._client.disconnect()

    def _publish(self, topic: str, payload: str) -> None:
        """Queue one retained message. Raises BlockingIOError when the queue to a slow broker is full."""
        if self._client.publish(topic, payload, qos=1, retain=True).rc == _QUEUE_FULL:
            raise BlockingIOError(f"{self._broker} is slow, its queue of {self._config.queue} messages is full")

    def _publish_record(self, record: LabelRecord) -> None:
        on = {label.name for label in record.labels if label.on}
        self._publish(f"{self._base}/state", record.to_json())
        for name, topic in self._topics.items():
            if self._published_on.get(name) != (name in on):
                self._publish(topic, "ON" if name in on else "OFF")
                self._published_on[name] = name in on

    def _learn_labels(self, record: LabelRecord) -> None:
        names = self._label_names()
        self._labels_id = record.labels_id
        self._topics = {}
        if len(names) <= MAX_LABEL_TOPICS:
            self._topics = {name: f"{self._base}/label/{topic_level(name)}" for name in names}
        else:
            log.info(
                "mqtt: %d labels are more than %d, so they get no topics of their own", len(names), MAX_LABEL_TOPICS
            )
        self._announced = False

    def _announce(self) -> None:
        """Who we are and what there will be to see; everything is published anew after it."""
        self._publish(f"{self._base}/status", "online")
        if self._config.discovery:
            topic = f"{self._config.discovery_prefix}/device/edge-label-{self._config.device}/config"
            self._publish(topic, json.dumps(self.discovery(), ensure_ascii=False))
        self._published_on = {}
        self._published_key = None
        self._announced = True

    def discovery(self) -> dict[str, Any]:
        """Home Assistant's device discovery message: a handful of sensors, and one binary sensor a label."""
        device = self._config.device
        components: dict[str, dict[str, Any]] = {}
        for key, name, template, more in _SENSORS:
            components[key] = {"platform": "sensor", "name": name, "value_template": template, **more}
        for label, topic in self._topics.items():
            key = f"label_{topic.rsplit('/', 1)[-1]}"
            components[key] = {"platform": "binary_sensor", "name": label, "state_topic": topic}
        for key, component in components.items():
            component["unique_id"] = f"edge-label-{device}-{key}"
        return {
            "device": {"identifiers": [f"edge-label-{device}"], "name": device, "model": "edge-label"},
            "origin": {"name": "edge-label", "sw_version": __version__},
            "availability": [{"topic": f"{self._base}/status"}],
            "state_topic": f"{self._base}/state",
            "qos": 1,
            "components": components,
        }

    def _on_connect(self, client: Any, userdata: Any, flags: Any, reason: Any, properties: Any) -> None:
        if reason.is_failure:
            self._complain(f"refuses us: {reason}; check credentials_file")
            return
        self._refused = ""
        log.info("mqtt: connected to %s, publishing below %s", self._broker, self._base)
        self._announced = False

    def _on_disconnect(self, client: Any, userdata: Any, flags: Any, reason: Any, properties: Any) -> None:
        if reason.is_failure and not self._refused:
            self._complain(f"connection lost ({reason})")

    def _on_connect_fail(self, client: Any, userdata: Any) -> None:
        self._complain("does not answer")

    def _complain(self, what: str) -> None:
        """One line a change, not one a retry."""
        if what != self._refused:
            self._refused = what
            log.warning("mqtt: %s %s; trying again, at least every %d s", self._broker, what, BACKOFF_MAX_S)


def _key(record: LabelRecord) -> tuple[str, ...]:
    """What has changed when a record is worth publishing before its time."""
    return (record.labels_id, record.state, *sorted(label.name for label in record.labels if label.on))


_QUEUE_FULL = 15  # paho's MQTT_ERR_QUEUE_SIZE

_ON = "{{ value_json.labels | selectattr('on') | map(attribute='name') | join(', ') | truncate(250) }}"
_SENSORS: tuple[tuple[str, str, str, dict[str, Any]], ...] = (
    ("labels", "Labels", _ON, {}),
    ("state", "State", "{{ value_json.state }}", {"entity_category": "diagnostic"}),
    (
        "fps",
        "Frames per second",
        "{{ value_json.fps }}",
        {"unit_of_measurement": "FPS", "entity_category": "diagnostic"},
    ),
    (
        "latency",
        "Latency",
        "{{ value_json.ms.total }}",
        {"device_class": "duration", "unit_of_measurement": "ms", "entity_category": "diagnostic"},
    ),
    (
        "memory",
        "Memory",
        "{{ value_json.rss_mb }}",
        {"device_class": "data_size", "unit_of_measurement": "MB", "entity_category": "diagnostic"},
    ),
    (
        "temperature",
        "Temperature",
        "{{ value_json.temp_c }}",
        {"device_class": "temperature", "unit_of_measurement": "°C", "entity_category": "diagnostic"},
    ),
)


def topic_level(name: str) -> str:
    """A label's name as one MQTT topic level: ``Snowy road`` -> ``snowy-road``.

    Names that lose anything but case and spaces on the way (``c++``, ``a/b#``) get a hash, so that none collide.
    """
    plain = plain_name(name.lower())
    if plain.replace("-", " ") == " ".join(name.lower().split()):
        return plain
    return f"{plain}-{sha256_hex(name.encode())[:6]}".lstrip("-")


def read_credentials(path: Path) -> tuple[str, str]:
    """(user, password) from a file of one line, ``user:password``. Raises ConfigError."""
    try:
        if path.stat().st_mode & 0o007:
            raise ConfigError(f"{path}: every user may read this password; chmod 640 it, group video for the service")
        user, colon, password = path.read_text(encoding="utf-8").strip("\n").partition(":")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not UTF-8"
        advice = "; the service's group is video" if isinstance(error, PermissionError) else ""
        raise ConfigError(f"{shown_file(str(path))}: cannot read mqtt credentials: {reason}{advice}") from None
    if not colon or not user or "\n" in password:
        raise ConfigError(f"{path}: must be one line, user:password")
    return user, password
