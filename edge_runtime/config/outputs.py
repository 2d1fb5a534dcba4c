"""Where records go: files, MQTT, metrics and the preview page. Triggers are in `triggers`."""

from __future__ import annotations

import platform
import re
from dataclasses import dataclass, field

from edge_runtime.config.addresses import check_host, check_listen, plain_name
from edge_runtime.config.checks import check_length, check_range
from edge_runtime.system.instance import instance


@dataclass(frozen=True, slots=True)
class OutputConfig:
    """Where records go. Without a file: stdout as JSON lines, or a live line on a terminal."""

    file: str | None = field(default=None, metadata={"short": True})
    stdout: bool = False
    max_mb: int = 1000
    rotate_mb: int = 50
    rotate_hours: float = 24.0
    sync_s: float = 10.0

    def __post_init__(self) -> None:
        check_range("output.max_mb", self.max_mb, 2, 1_000_000)
        check_range("output.rotate_mb", self.rotate_mb, 1, 1_000_000)
        check_range("output.rotate_hours", self.rotate_hours, 0.01, 8760)
        check_range("output.sync_s", self.sync_s, 0, 3600)
        if self.rotate_mb > self.max_mb / 2:
            raise ValueError(
                f"output.rotate_mb must be at most half of output.max_mb ({self.max_mb})"
            )


_TOPIC = re.compile(r"[A-Za-z0-9_-]+(/[A-Za-z0-9_-]+)*")


def device_name() -> str:
    """The host's name, and that of the instance where several cameras are served on one host."""
    host = plain_name(platform.node()) or "edge-label"
    return plain_name(f"{host}-{instance()}") if instance() else host


@dataclass(frozen=True, slots=True)
class MqttConfig:
    """Publish to an MQTT broker. Needs ``pip install 'edge-label[mqtt]'``."""

    host: str = field(metadata={"short": True})
    port: int | None = None  # 1883, or 8883 with tls
    device: str = field(default_factory=device_name)
    topic: str = "edge-label"
    credentials_file: str | None = None
    tls: bool = False
    ca_file: str | None = None
    cert_file: str | None = None
    key_file: str | None = None
    every_s: float = 10.0
    queue: int = 100
    picture_s: float | None = None
    discovery: bool = True
    discovery_prefix: str = "homeassistant"

    def __post_init__(self) -> None:
        check_host("mqtt.host", self.host)
        if self.port is not None:
            check_range("mqtt.port", self.port, 1, 65535)
        check_range("mqtt.every_s", self.every_s, 0.1, 86400)
        check_range("mqtt.queue", self.queue, 10, 10_000)
        if self.picture_s is not None:
            check_range("mqtt.picture_s", self.picture_s, 1, 86400)
        _check_topic("mqtt.topic", self.topic)
        _check_topic("mqtt.discovery_prefix", self.discovery_prefix)

        if not self.device or self.device != plain_name(self.device):
            raise ValueError(f"mqtt.device may hold letters, digits, - and _, not {self.device!r}")
        check_length("mqtt.device", self.device, 200)

        if not self.tls and (self.ca_file or self.cert_file or self.key_file):
            raise ValueError(
                "mqtt.ca_file, cert_file and key_file mean nothing without tls: true; add it"
            )


def _check_topic(name: str, topic: str) -> None:
    if not _TOPIC.fullmatch(topic):
        raise ValueError(
            f"{name} may hold letters, digits, - and _ between single slashes, not {topic!r}"
        )
    check_length(name, topic, 200)


@dataclass(frozen=True, slots=True)
class PrometheusConfig:
    """Metrics for Prometheus: over HTTP, in a text file for node_exporter, or both."""

    listen: str | None = field(default=None, metadata={"short": True})
    token_file: str | None = None
    textfile: str | None = None
    every_s: float = 15.0

    def __post_init__(self) -> None:
        if self.listen is None and self.textfile is None:
            raise ValueError(
                "prometheus needs listen (such as 127.0.0.1:9464) or textfile; add one"
            )
        if self.listen is not None:
            check_listen("prometheus", self.listen, self.token_file)
        if self.textfile is not None and not self.textfile.endswith(".prom"):
            raise ValueError(
                f"prometheus.textfile must end in .prom, not {self.textfile}: "
                "node_exporter reads no other file"
            )
        check_range("prometheus.every_s", self.every_s, 1, 3600)


@dataclass(frozen=True, slots=True)
class PreviewConfig:
    """The page that shows what the camera sees."""

    listen: str = field(default="127.0.0.1:8080", metadata={"short": True})
    token_file: str | None = None
    edit: bool = False

    def __post_init__(self) -> None:
        check_listen("preview", self.listen, self.token_file)
        # Also on loopback: other users and other programs of this machine can reach it there.
        if self.edit and self.token_file is None:
            raise ValueError(
                "preview.edit lets the page change labels and keep pictures, so it needs "
                "preview.token_file; make one with: openssl rand -hex 16"
            )
