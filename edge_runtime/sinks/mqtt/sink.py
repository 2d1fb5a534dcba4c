"""Records to an MQTT broker, with Home Assistant device discovery.

Topics, all retained, QoS 1, below ``<topic>/<device>/``:

- ``status``: ``online``, or ``offline`` by the broker's last will
- ``state``: the newest record, as in the JSON lines, when labels or state change (at most every ``MIN_INTERVAL_S``)
  and every ``every_s`` seconds
- ``label/<name>``: ``ON`` or ``OFF`` for every label of a set of at most ``MAX_LABEL_TOPICS``

While the broker is away nothing piles up: when it is back, the next record is published. While it is slow, paho's
queue takes at most ``queue`` messages; what does not fit is counted as lost, and the next record tries again.

What is retained and no longer true is cleared with an empty message: the topics of labels that left the set, and, when
``device``, ``topic``, ``discovery`` or ``discovery_prefix`` change, those of before. What a former run left on the
broker is learned from its discovery message and from the label topics that are there.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Sequence
from typing import Any

from edge_runtime.config import Config, MqttConfig
from edge_runtime.records import LabelledFrame, LabelRecord
from edge_runtime.sinks.mqtt.link import Link
from edge_runtime.sinks.mqtt.topics import (
    MAX_LABEL_TOPICS,
    USUAL_PREFIX,
    Topics,
    config_topic,
    read_former,
)

log = logging.getLogger("edge_label.mqtt")

MIN_INTERVAL_S = 0.25
LOOK_S = 1.0  # how often the sink looks after its connection
LISTEN_S = 10.0  # how long the broker may take to tell what is retained
FLUSH_S = 1.0


class Pace:
    """The pipeline's half: which records the sink gets, and with them the names of the labels in use."""

    def __init__(self, label_names: Callable[[], Sequence[str]]) -> None:
        self._label_names = label_names
        self._names: tuple[str, ...] = ()
        self._labels_id = ""
        self._key: tuple[str, ...] | None = None
        self._not_before_s = self._look_s = float("-inf")

    def choose(self, labelled: LabelledFrame) -> tuple[LabelRecord, tuple[str, ...]] | None:
        """A record where something changed, at most every ``MIN_INTERVAL_S``; else one every ``LOOK_S``."""
        record = labelled.record
        now_s = time.monotonic()
        key = _key(record)
        changed = key != self._key
        if now_s < (self._not_before_s if changed else self._look_s):
            return None
        if record.labels_id != self._labels_id:
            self._labels_id = record.labels_id
            self._names = tuple(self._label_names())
        if changed:
            self._not_before_s = now_s + MIN_INTERVAL_S
        self._look_s = now_s + LOOK_S
        self._key = key
        return record, self._names

    def dropped(self, record: LabelRecord, names: tuple[str, ...]) -> None:
        """What changed with it changes again with the next record."""
        self._key = None


class MqttSink:
    """One broker. Raises ConfigError when paho-mqtt, the credentials or the certificates are missing or wrong."""

    name = "mqtt"

    def __init__(self, config: MqttConfig) -> None:
        self._config = config
        self._topics = Topics.of(config)
        former = {
            config_topic(prefix, config.device)
            for prefix in (config.discovery_prefix, USUAL_PREFIX)
        }
        ask = [f"{self._topics.base}/label/+", *sorted(former)]
        self._link = Link(config, (self._topics.status, "offline"), ask)
        self._former_configs = former

        self._labels_id = ""
        self._label_topics: dict[str, str] = {}
        self._announced_on = 0  # the number of the connection
        self._published_key: object = None
        self._published_on: dict[str, bool] = {}
        self._due_s = 0.0
        self._listen_until_s = float("inf")

        self._retained: set[str] = (
            set()
        )  # topics with a message of ours, of this run or of one before
        self._components: dict[str, str] = {}  # that Home Assistant knows, and their platforms
        self._retired = False
        self._successor: MqttConfig | None = None

    def write(self, record: LabelRecord, names: tuple[str, ...]) -> None:
        """Publish the record if something changed, or if it is time again."""
        now_s = time.monotonic()
        self._link.start()  # not in __init__: a reload makes the new sink before it closes the old, of the same name
        if record.labels_id != self._labels_id:
            self._take_labels(record.labels_id, names)
        if not self._link.connected:
            return
        if self._announced_on != self._link.connections:
            self._announce(now_s)
        self._hear(now_s)
        self._clear_ghosts()

        key = _key(record)
        if key != self._published_key or now_s >= self._due_s:
            self._due_s = now_s + self._config.every_s
            self._publish_record(record)
            self._published_key = key

    def retire(self, successor: Config) -> None:
        """Before ``close``: another sink follows, or none; what that one will not look after is cleared."""
        self._retired = True
        self._successor = successor.mqtt

    def close(self) -> None:
        """Say goodbye if the broker listens; it does not hold up the end for more than a second."""
        goodbye = self._goodbye()
        if self._link.connected:
            if not self._link.publish_last(goodbye, FLUSH_S):
                log.debug("mqtt: the broker does not listen, and hears of the end by the last will")
        elif len(goodbye) > 1:
            log.warning(
                "mqtt: the broker is away, so what was published below %s stays there",
                self._topics.base,
            )
        self._link.close()

    def _goodbye(self) -> list[tuple[str, str]]:
        """The last messages: what is cleared, Home Assistant's first, and that the camera is offline."""
        left: set[str] = set()
        if self._retired:
            successor = self._successor
            here = successor is not None and _broker(successor) == _broker(self._config)
            kept = Topics.of(successor) if successor is not None and here else None
            left = {topic for topic in self._retained if kept is None or not kept.cover(topic)}
        messages = [(topic, "") for topic in sorted(left, key=self._config_first)]
        if self._topics.status not in left:
            messages.append((self._topics.status, "offline"))
        return messages

    def _config_first(self, topic: str) -> tuple[bool, str]:
        return topic not in self._former_configs, topic

    def _publish(self, topic: str, payload: str) -> None:
        self._link.publish(topic, payload)
        self._retained.add(topic)

    def _publish_record(self, record: LabelRecord) -> None:
        on = {label.name for label in record.labels if label.on}
        self._publish(self._topics.state, record.to_json())
        for name, topic in self._label_topics.items():
            if self._published_on.get(name) != (name in on):
                self._publish(topic, "ON" if name in on else "OFF")
                self._published_on[name] = name in on

    def _take_labels(self, labels_id: str, names: tuple[str, ...]) -> None:
        self._labels_id = labels_id
        self._label_topics = self._topics.of_labels(names)
        self._announced_on = 0
        if len(names) > MAX_LABEL_TOPICS:
            log.info(
                "mqtt: %d labels are more than %d, so they get no topics of their own",
                len(names),
                MAX_LABEL_TOPICS,
            )

    def _announce(self, now_s: float) -> None:
        """Who we are and what there will be to see; everything is published anew after it."""
        if self._listen_until_s == float("inf"):
            self._listen_until_s = now_s + LISTEN_S
        self._publish(self._topics.status, "online")
        self._publish_discovery()
        self._published_on = {}
        self._published_key = None
        self._announced_on = self._link.connections

    def _publish_discovery(self) -> None:
        """Tell Home Assistant. A component that is gone must be named once more, with nothing but its platform."""
        if self._topics.config is None:
            return
        message = self._topics.discovery(self._label_topics)
        components: dict[str, dict[str, Any]] = message["components"]
        gone = {
            key: {"platform": was} for key, was in self._components.items() if key not in components
        }
        if gone:
            farewell = {**message, "components": {**components, **gone}}
            self._publish(self._topics.config, json.dumps(farewell, ensure_ascii=False))
        self._publish(self._topics.config, json.dumps(message, ensure_ascii=False))
        self._components = {key: component["platform"] for key, component in components.items()}

    def _hear(self, now_s: float) -> None:
        """Take in what former runs left on the broker."""
        forgotten = False
        while not self._link.found.empty():
            topic, payload = self._link.found.get()
            if topic not in self._former_configs:
                self._retained.add(topic)
                continue
            former = read_former(payload, self._config.device)
            if former is None:
                continue
            self._retained |= {topic, *former.topics}
            if topic == self._topics.config:
                forgotten = forgotten or not former.components.keys() <= self._components.keys()
                self._components = {**former.components, **self._components}
        if forgotten:
            self._publish_discovery()
        if now_s >= self._listen_until_s:
            self._link.stop_asking()

    def _clear_ghosts(self) -> None:
        """An empty message takes a retained one away."""
        topics = self._topics
        alive = {topics.status, topics.state, topics.config, *self._label_topics.values()}
        for topic in sorted(self._retained - alive, key=self._config_first):
            self._link.publish(topic, "")
            self._retained.remove(topic)


def _broker(config: MqttConfig) -> tuple[str, int | None, bool]:
    return config.host, config.port, config.tls


def _key(record: LabelRecord) -> tuple[str, ...]:
    """What has changed when a record is worth publishing before its time."""
    return (
        record.labels_id,
        record.state,
        *sorted(label.name for label in record.labels if label.on),
    )
