"""Where an MQTT sink publishes: its topics, the message by which Home Assistant finds it, and what was ours before."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from edge_runtime.config import MqttConfig, plain_name
from edge_runtime.system.digest import sha256_hex
from edge_runtime.version import __version__

MAX_LABEL_TOPICS = 64
USUAL_PREFIX = "homeassistant"
MAX_DISCOVERY = 1_000_000  # bytes; a message of ours for 64 labels has 20,000

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
        {
            "device_class": "temperature",
            "unit_of_measurement": "°C",
            "entity_category": "diagnostic",
        },
    ),
)


@dataclass(frozen=True, slots=True)
class Topics:
    """All topics of one camera. ``config`` is None where Home Assistant is not to find it."""

    device: str
    base: str
    config: str | None

    @classmethod
    def of(cls, config: MqttConfig) -> Topics:
        """Those that a configuration asks for."""
        found_by = (
            config_topic(config.discovery_prefix, config.device) if config.discovery else None
        )
        return cls(config.device, f"{config.topic}/{config.device}", found_by)

    @property
    def status(self) -> str:
        """``online`` or ``offline``."""
        return f"{self.base}/status"

    @property
    def state(self) -> str:
        """The newest record."""
        return f"{self.base}/state"

    def of_labels(self, names: Sequence[str]) -> dict[str, str]:
        """A topic a label, by its name; none when there are more than ``MAX_LABEL_TOPICS``."""
        if len(names) > MAX_LABEL_TOPICS:
            return {}
        return {name: f"{self.base}/label/{topic_level(name)}" for name in names}

    def cover(self, topic: str) -> bool:
        """Whether a sink with these topics looks after ``topic``."""
        return topic == self.config or topic.startswith(f"{self.base}/")

    def discovery(self, labels: dict[str, str]) -> dict[str, Any]:
        """Home Assistant's device discovery message: a handful of sensors, and one binary sensor a label."""
        components: dict[str, dict[str, Any]] = {}
        for key, name, template, more in _SENSORS:
            components[key] = {
                "platform": "sensor",
                "name": name,
                "value_template": template,
                **more,
            }
        for label, topic in labels.items():
            key = f"label_{topic.rsplit('/', 1)[-1]}"
            components[key] = {"platform": "binary_sensor", "name": label, "state_topic": topic}
        for key, component in components.items():
            component["unique_id"] = f"{identifier(self.device)}-{key}"
        return {
            "device": {
                "identifiers": [identifier(self.device)],
                "name": self.device,
                "model": "edge-label",
            },
            "origin": {"name": "edge-label", "sw_version": __version__},
            "availability": [{"topic": self.status}],
            "state_topic": self.state,
            "qos": 1,
            "components": components,
        }


def identifier(device: str) -> str:
    """What a device is called where other programs have devices too: for the broker, and in Home Assistant."""
    return f"edge-label-{device}"


def config_topic(prefix: str, device: str) -> str:
    """Where Home Assistant looks for a device's discovery message."""
    return f"{prefix}/device/{identifier(device)}/config"


@dataclass(frozen=True, slots=True)
class Former:
    """What a discovery message of a former run tells of it: the topics it used, its components and their platforms."""

    topics: frozenset[str]
    components: dict[str, str]


def read_former(payload: bytes, device: str) -> Former | None:
    """A retained discovery message, read back. None for one that edge-label did not publish for ``device``.

    Only topics of the forms that edge-label makes are taken from it: whoever else may write there must not
    choose what we delete.
    """
    if len(payload) > MAX_DISCOVERY:
        return None
    try:
        message = json.loads(payload)
        ours = (
            message["origin"]["name"] == "edge-label"
            and identifier(device) in message["device"]["identifiers"]
        )
        components = {
            str(key): part for key, part in message["components"].items() if isinstance(part, dict)
        }
        topics = [message["state_topic"], *(place["topic"] for place in message["availability"])]
        topics += [part["state_topic"] for part in components.values() if "state_topic" in part]
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return None
    if not ours:
        return None
    form = re.compile(rf"[A-Za-z0-9_/-]+/{re.escape(device)}/(status|state|label/[A-Za-z0-9_-]+)")
    of_our_form = frozenset(str(topic) for topic in topics if form.fullmatch(str(topic)))
    platforms = {key: str(part.get("platform")) for key, part in components.items()}
    return Former(of_our_form, platforms)


def topic_level(name: str) -> str:
    """A label's name as one MQTT topic level: ``Snowy road`` -> ``snowy-road``.

    Names that lose anything but case and spaces on the way (``c++``, ``a/b#``) get a hash, so that none collide.
    """
    plain = plain_name(name.lower())
    if plain.replace("-", " ") == " ".join(name.lower().split()):
        return plain
    return f"{plain}-{sha256_hex(name.encode())[:6]}".lstrip("-")
