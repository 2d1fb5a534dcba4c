"""The topics of one camera on an MQTT broker."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from edge_runtime.config import MqttConfig, plain_name
from edge_runtime.system.digest import sha256_hex

MAX_LABEL_TOPICS = 64


@dataclass(frozen=True, slots=True)
class Topics:
    """All topics of one camera. ``config`` is None where Home Assistant is not to find it."""

    device: str
    base: str
    config: str | None

    @classmethod
    def of(cls, config: MqttConfig) -> Topics:
        """Those that a configuration asks for."""
        discovery: str | None = None
        if config.discovery:
            discovery = config_topic(config.discovery_prefix, config.device)
        return cls(config.device, f"{config.topic}/{config.device}", discovery)

    @property
    def status(self) -> str:
        """``online`` or ``offline``."""
        return f"{self.base}/status"

    @property
    def state(self) -> str:
        """The newest record."""
        return f"{self.base}/state"

    @property
    def picture(self) -> str:
        """The present picture, a JPEG."""
        return f"{self.base}/picture"

    def of_labels(self, names: Sequence[str]) -> dict[str, str]:
        """The topic of each label, by name; none for more than `MAX_LABEL_TOPICS` labels."""
        if len(names) > MAX_LABEL_TOPICS:
            return {}
        return {name: f"{self.base}/label/{topic_level(name)}" for name in names}

    def cover(self, topic: str) -> bool:
        """Whether a sink with these topics looks after ``topic``."""
        return topic == self.config or topic.startswith(f"{self.base}/")


def identifier(device: str) -> str:
    """The device's name where other programs have devices too, as in Home Assistant."""
    return f"edge-label-{device}"


def config_topic(prefix: str, device: str) -> str:
    """Where Home Assistant looks for a device's discovery message."""
    return f"{prefix}/device/{identifier(device)}/config"


def topic_level(name: str) -> str:
    """A label's name as one MQTT topic level: ``Snowy road`` -> ``snowy-road``.

    A name that loses more than case and spaces (``c++``, ``a/b#``) gets a hash, so that no two
    labels share a topic.
    """
    plain = plain_name(name.lower())
    if plain.replace("-", " ") == " ".join(name.lower().split()):
        return plain
    return f"{plain}-{sha256_hex(name.encode())[:6]}".lstrip("-")
