"""The message by which Home Assistant finds a camera: written, and read back from a former run.

See https://www.home-assistant.io/integrations/mqtt/#device-discovery-payload.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

from edge_runtime.sinks.mqtt.topics import Topics, identifier
from edge_runtime.version import __version__

USUAL_PREFIX = "homeassistant"
MAX_DISCOVERY = 1_000_000  # bytes; a message of ours for 64 labels has 20,000

# The topics of a camera, below its device.
_LEVELS = "(status|state|picture|label/[A-Za-z0-9_-]+)"

_DIAGNOSTIC = {"entity_category": "diagnostic"}
_LABELS_ON = (
    "{{ value_json.labels | selectattr('on') | map(attribute='name') | join(', ') "
    "| truncate(250) }}"
)
# Key, name, template over the record, and other fields of each sensor.
_SENSORS: tuple[tuple[str, str, str, dict[str, Any]], ...] = (
    ("labels", "Labels", _LABELS_ON, {}),
    ("state", "State", "{{ value_json.state }}", _DIAGNOSTIC),
    (
        "fps",
        "Frames per second",
        "{{ value_json.fps }}",
        {"unit_of_measurement": "FPS", **_DIAGNOSTIC},
    ),
    (
        "latency",
        "Latency",
        "{{ value_json.ms.total }}",
        {"device_class": "duration", "unit_of_measurement": "ms", **_DIAGNOSTIC},
    ),
    (
        "memory",
        "Memory",
        "{{ value_json.rss_mb }}",
        {"device_class": "data_size", "unit_of_measurement": "MB", **_DIAGNOSTIC},
    ),
    (
        "temperature",
        "Temperature",
        "{{ value_json.temp_c }}",
        {"device_class": "temperature", "unit_of_measurement": "°C", **_DIAGNOSTIC},
    ),
)


def discovery_message(
    topics: Topics, label_topics: dict[str, str], *, picture: bool = False
) -> dict[str, Any]:
    """A handful of sensors, one binary sensor for each label, and a camera with ``picture``.

    ``label_topics`` are by name.
    """
    components: dict[str, dict[str, Any]] = {}
    for key, name, template, fields in _SENSORS:
        components[key] = {
            "platform": "sensor",
            "name": name,
            "value_template": template,
            **fields,
        }
    for label, topic in label_topics.items():
        key = f"label_{topic.rsplit('/', 1)[-1]}"
        components[key] = {"platform": "binary_sensor", "name": label, "state_topic": topic}

    if picture:
        components["picture"] = {"platform": "camera", "name": "Picture", "topic": topics.picture}

    device = identifier(topics.device)
    for key, component in components.items():
        component["unique_id"] = f"{device}-{key}"
    return {
        "device": {"identifiers": [device], "name": topics.device, "model": "edge-label"},
        "origin": {"name": "edge-label", "sw_version": __version__},
        "availability": [{"topic": topics.status}],
        "state_topic": topics.state,
        "qos": 1,
        "components": components,
    }


@dataclass(frozen=True, slots=True)
class Former:
    """What a former run's discovery message says: topics, and the platform of each component."""

    topics: frozenset[str]
    components: dict[str, str]


def read_former(payload: bytes, device: str) -> Former | None:
    """A retained discovery message, read back; None where edge-label did not write it for
    ``device``.

    Only topics of the forms that edge-label makes are taken from it. Others may write to that topic
    too, and must not choose what we delete.
    """
    if len(payload) > MAX_DISCOVERY:
        return None
    try:
        message = json.loads(payload)
        is_ours = _is_ours(message, device)
        components = _components(message)
        topics = _topics(message, components)
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return None  # no JSON, or of another shape
    if not is_ours:
        return None

    form = re.compile(rf"[A-Za-z0-9_/-]+/{re.escape(device)}/{_LEVELS}")
    of_our_form = frozenset(str(topic) for topic in topics if form.fullmatch(str(topic)))
    platforms = {key: str(component.get("platform")) for key, component in components.items()}
    return Former(of_our_form, platforms)


def _is_ours(message: Any, device: str) -> bool:
    by_edge_label = message["origin"]["name"] == "edge-label"
    return by_edge_label and identifier(device) in message["device"]["identifiers"]


def _components(message: Any) -> dict[str, dict[str, Any]]:
    items = message["components"].items()
    return {str(key): component for key, component in items if isinstance(component, dict)}


def _topics(message: Any, components: dict[str, dict[str, Any]]) -> list[Any]:
    topics = [message["state_topic"]]
    topics += [entry["topic"] for entry in message["availability"]]
    for component in components.values():
        topics += [component[key] for key in ("state_topic", "topic") if key in component]
    return topics
