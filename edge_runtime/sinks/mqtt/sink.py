"""Records to an MQTT broker, with Home Assistant device discovery.

Topics, all retained, QoS 1, below ``<topic>/<device>/``:

- ``status``: ``online``, or ``offline`` by the broker's last will
- ``state``: the newest record, as in the JSON lines, when labels or state change (at most every
  ``MIN_INTERVAL_S``) and every ``every_s`` seconds
- ``picture``: the present picture as a JPEG, at most every ``picture_s`` seconds; privacy has been
  applied to it like to every frame
- ``label/<name>``: ``ON`` or ``OFF`` for every label of a set of at most ``MAX_LABEL_TOPICS``

While the broker is away no messages pile up: when it is back, the next record is published. While
it is slow, paho's queue takes at most ``queue`` messages. What has no room is counted as lost, and
the next record tries again.

A retained message that is no longer true is cleared with an empty one: the topics of labels that
left the set, and, when ``device``, ``topic``, ``discovery`` or ``discovery_prefix`` change, those
of before. The sink learns what a former run left from its discovery message and from the label
topics there.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable
from typing import Any

from edge_runtime.config import Config, MqttConfig
from edge_runtime.errors import DataError
from edge_runtime.records import Frame, LabelRecord
from edge_runtime.sinks.mqtt.discovery import USUAL_PREFIX, discovery_message, read_former
from edge_runtime.sinks.mqtt.link import Link
from edge_runtime.sinks.mqtt.pace import record_key
from edge_runtime.sinks.mqtt.topics import MAX_LABEL_TOPICS, Topics, config_topic

log = logging.getLogger("edge_label.mqtt")

ToJpeg = Callable[[Frame], bytes]

LISTEN_S = 10.0  # how long the broker may take to send what is retained
FLUSH_S = 1.0  # what the last messages may take at the end


class MqttSink:
    """One broker.

    Raises ConfigError when paho-mqtt, the credentials or the certificates are missing or wrong.
    """

    name = "mqtt"

    def __init__(self, config: MqttConfig, to_jpeg: ToJpeg | None = None) -> None:
        """``to_jpeg`` encodes pictures; None: there are none, and a former run's is cleared."""
        self._config = config
        self._to_jpeg = to_jpeg
        self._picture: Any = None  # the message of the last one
        self._topics = Topics.of(config)
        # Where a former run may have left a discovery message. If its prefix has changed since, it
        # was most likely the usual one.
        self._former_configs = {
            config_topic(prefix, config.device)
            for prefix in (config.discovery_prefix, USUAL_PREFIX)
        }
        ask = [f"{self._topics.base}/label/+", *sorted(self._former_configs)]
        if to_jpeg is None:
            ask.append(self._topics.picture)
        self._link = Link(config, will=(self._topics.status, "offline"), ask=ask)
        self._listen_until_s = float("inf")

        self._labels_id = ""
        self._label_topics: dict[str, str] = {}
        self._announced_on = 0  # the number of the connection
        self._published_key: object = None
        self._published_on: dict[str, bool] = {}
        self._due_s = 0.0

        self._retained: set[str] = set()  # topics with a message of this run or of a former one
        self._components: dict[str, str] = {}  # what Home Assistant knows, with platforms
        self._retired = False
        self._successor: MqttConfig | None = None

    def write(
        self, record: LabelRecord, names: tuple[str, ...], frame: Frame | None = None
    ) -> None:
        """Publish the record if something changed or time is up, and the picture of ``frame``.

        Raises BlockingIOError.
        """
        now_s = time.monotonic()
        # Not in __init__: a reload makes the new sink before it closes the old one, and the broker
        # would throw out the old one, which has the same name.
        self._link.start()
        if record.labels_id != self._labels_id:
            self._take_labels(record.labels_id, names)
        if not self._link.connected:
            return

        if self._announced_on != self._link.connections:
            self._announce(now_s)
        self._hear(now_s)
        self._clear_stale_topics()

        key = record_key(record)
        if key != self._published_key or now_s >= self._due_s:
            self._due_s = now_s + self._config.every_s
            self._publish_record(record)
            self._published_key = key
        if frame is not None and self._to_jpeg is not None:
            self._publish_picture(frame, self._to_jpeg)

    def retire(self, successor: Config) -> None:
        """Called before ``close``: clear what the sink of ``successor`` will not look after."""
        self._retired = True
        self._successor = successor.mqtt

    def close(self) -> None:
        """Say goodbye if the broker listens, within a second."""
        goodbye = self._goodbye()
        if self._link.connected:
            if not self._link.publish_last(goodbye, FLUSH_S):
                log.debug("mqtt: the broker does not listen; its last will says that we are gone")
        elif len(goodbye) > 1:
            log.warning(
                "mqtt: the broker is away, so what was published below %s stays there",
                self._topics.base,
            )
        self._link.close()

    def _goodbye(self) -> list[tuple[str, str]]:
        """The last messages: what is cleared, Home Assistant's first, and that we are offline."""
        orphans = self._orphans() if self._retired else set()
        messages = [(topic, "") for topic in sorted(orphans, key=self._config_first)]
        if self._topics.status not in orphans:
            messages.append((self._topics.status, "offline"))
        return messages

    def _orphans(self) -> set[str]:
        """The retained topics that the successor does not look after."""
        successor = self._successor
        if successor is None or _broker(successor) != _broker(self._config):
            return set(self._retained)
        topics = Topics.of(successor)
        return {topic for topic in self._retained if not topics.cover(topic)}

    def _config_first(self, topic: str) -> tuple[bool, str]:
        """Sort key: Home Assistant forgets a sensor before the sensor's topic is cleared."""
        return topic not in self._former_configs, topic

    def _publish(self, topic: str, payload: str | bytes) -> Any:
        message = self._link.publish(topic, payload)
        self._retained.add(topic)
        return message

    def _publish_record(self, record: LabelRecord) -> None:
        self._publish(self._topics.state, record.to_json())
        on = {label.name for label in record.labels if label.on}
        for name, topic in self._label_topics.items():
            is_on = name in on
            if self._published_on.get(name) != is_on:
                self._publish(topic, "ON" if is_on else "OFF")
                self._published_on[name] = is_on

    def _publish_picture(self, frame: Frame, to_jpeg: ToJpeg) -> None:
        """One at a time: a slow broker must not make us keep pictures for it."""
        if self._picture is not None and not self._picture.is_published():
            return
        try:
            jpeg = to_jpeg(frame)
        except DataError:  # a broken frame; the next picture is soon due
            return
        self._picture = self._publish(self._topics.picture, jpeg)

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
        """Say who we are and which sensors we have; everything is published anew after it."""
        if self._listen_until_s == float("inf"):
            self._listen_until_s = now_s + LISTEN_S
        self._publish(self._topics.status, "online")
        self._publish_discovery()
        self._published_on = {}
        self._published_key = None
        self._announced_on = self._link.connections

    def _publish_discovery(self) -> None:
        """Tell Home Assistant which sensors there are, and which are gone."""
        if self._topics.config is None:
            return
        message = discovery_message(
            self._topics, self._label_topics, picture=self._to_jpeg is not None
        )
        components = message["components"]
        gone = {}
        for key, platform in self._components.items():
            if key not in components:
                gone[key] = {"platform": platform}
        if gone:
            # Home Assistant removes a component that is named once more with only its platform.
            farewell = {**message, "components": {**components, **gone}}
            self._publish(self._topics.config, json.dumps(farewell, ensure_ascii=False))
        self._publish(self._topics.config, json.dumps(message, ensure_ascii=False))
        self._components = {key: component["platform"] for key, component in components.items()}

    def _hear(self, now_s: float) -> None:
        """Take in what former runs left on the broker."""
        has_unknown_components = False
        while not self._link.retained.empty():
            topic, payload = self._link.retained.get()
            if topic not in self._former_configs:
                self._retained.add(topic)
                continue
            former = read_former(payload, self._config.device)
            if former is None:
                continue
            self._retained |= {topic, *former.topics}
            if topic == self._topics.config:
                known = former.components.keys() <= self._components.keys()
                has_unknown_components = has_unknown_components or not known
                self._components = {**former.components, **self._components}

        if has_unknown_components:
            self._publish_discovery()
        if now_s >= self._listen_until_s:
            self._link.stop_asking()

    def _clear_stale_topics(self) -> None:
        """An empty message clears a retained one."""
        topics = self._topics
        current = {topics.status, topics.state, topics.config, *self._label_topics.values()}
        if self._to_jpeg is not None:
            current.add(topics.picture)
        for topic in sorted(self._retained - current, key=self._config_first):
            self._link.publish(topic, "")
            self._retained.remove(topic)


def _broker(config: MqttConfig) -> tuple[str, int | None, bool]:
    return config.host, config.port, config.tls
