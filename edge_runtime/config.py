"""The configuration file as frozen dataclasses. systemd/edge-label.yaml, with its comments, is the manual.

One dataclass a section; a field's default is the product's default. Command-line options override fields.
"""

from __future__ import annotations

import ipaddress
import platform
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from edge_runtime.errors import printable
from edge_runtime.records import RecordState, WantedModality
from edge_runtime.system import strict_yaml


@dataclass(frozen=True, slots=True)
class CameraConfig:
    """Where frames come from."""

    source: str = field(default="/dev/video0", metadata={"short": True})  # camera: /dev/video0
    width: int = 640
    height: int = 480
    fps: float = 30
    fourcc: Literal["auto", "MJPG", "YUYV", "GREY", "Y16"] = "auto"
    max_fps: float | None = None
    realtime: bool = False
    loop: bool = False
    exit_on_error: bool = False
    frozen_frames: int = 90
    stuck_s: float = 30.0

    def __post_init__(self) -> None:
        _within("camera.width", self.width, 16, 8192)
        _within("camera.height", self.height, 16, 8192)
        _within("camera.fps", self.fps, 0.01, 240)
        if self.max_fps is not None:
            _within("camera.max_fps", self.max_fps, 1, 240)
        _within("camera.frozen_frames", self.frozen_frames, 0, 1_000_000)
        _within("camera.stuck_s", self.stuck_s, 10, 3600)


@dataclass(frozen=True, slots=True)
class ModelConfig:
    """What looks at them, and for which words."""

    bundle: str | None = None
    labels: str = "everyday"
    modality: WantedModality = "auto"
    threads: int | None = None
    top_k: int = 10

    def __post_init__(self) -> None:
        if self.threads is not None:
            _within("model.threads", self.threads, 1, 64)
        _within("model.top_k", self.top_k, 1, 1000)


@dataclass(frozen=True, slots=True)
class PrivacyConfig:
    """What of the picture may be used at all. All numbers are fractions of its width and height."""

    region: tuple[float, float, float, float] | None = None  # left, top, width, height
    masks: tuple[tuple[tuple[float, float], ...], ...] = ()  # polygons of (x, y) corners

    def __post_init__(self) -> None:
        numbers = [
            *(self.region or ()),
            *(n for polygon in self.masks for corner in polygon for n in corner),
        ]
        if any(not 0 <= number <= 1 for number in numbers):
            raise ValueError(
                "privacy: corners and regions are fractions of the picture, between 0 and 1"
            )
        if self.region is not None:
            left, top, width, height = self.region
            if width <= 0 or height <= 0 or left + width > 1 or top + height > 1:
                raise ValueError(
                    "privacy.region must be [left, top, width, height] inside the picture"
                )
        if any(len(polygon) < 3 for polygon in self.masks):
            raise ValueError("privacy.masks: a polygon needs at least three [x, y] corners")


@dataclass(frozen=True, slots=True)
class ConsensusConfig:
    """How many frames must agree before a label is on or off, so that labels do not flap."""

    method: Literal["exponential", "k_of_n", "off"] = "exponential"
    tau_s: float = 0.6
    k: int = 6
    n: int = 9
    on_share: float = 0.6
    off_share: float = 0.25
    min_dwell_s: float = 1.0

    def __post_init__(self) -> None:
        _within("consensus.tau_s", self.tau_s, 0.01, 600)
        _within("consensus.n", self.n, 1, 1000)
        _within("consensus.on_share", self.on_share, 0.5, 0.99)
        _within("consensus.min_dwell_s", self.min_dwell_s, 0, 3600)
        if not self.n / 2 < self.k <= self.n:
            raise ValueError(
                f"consensus.k must be more than half of n ({self.n}) and at most n, not {self.k}"
            )
        if not 0 <= self.off_share < self.on_share:
            raise ValueError(
                f"consensus.off_share must be below on_share ({self.on_share}), not {self.off_share}"
            )


@dataclass(frozen=True, slots=True)
class ThermalConfig:
    """When to label fewer frames, so that the processor stays under its limit."""

    limit_c: float | None = 80.0
    zones: str = "/sys/class/thermal"

    def __post_init__(self) -> None:
        if self.limit_c is not None:
            _within("thermal.limit_c", self.limit_c, 30, 120)


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
        _within("output.max_mb", self.max_mb, 2, 1_000_000)
        _within("output.rotate_mb", self.rotate_mb, 1, 1_000_000)
        _within("output.rotate_hours", self.rotate_hours, 0.01, 8760)
        _within("output.sync_s", self.sync_s, 0, 3600)
        if self.rotate_mb > self.max_mb / 2:
            raise ValueError(
                f"output.rotate_mb must be at most half of output.max_mb ({self.max_mb})"
            )


@dataclass(frozen=True, slots=True)
class MqttConfig:
    """Publish to an MQTT broker. Needs ``pip install 'edge-label[mqtt]'``."""

    host: str = field(metadata={"short": True})
    port: int | None = None  # 1883, or 8883 with tls
    device: str = field(default_factory=lambda: plain_name(platform.node()) or "edge-label")
    topic: str = "edge-label"
    credentials_file: str | None = None
    tls: bool = False
    ca_file: str | None = None
    cert_file: str | None = None
    key_file: str | None = None
    every_s: float = 10.0
    queue: int = 100
    discovery: bool = True
    discovery_prefix: str = "homeassistant"

    def __post_init__(self) -> None:
        check_host("mqtt.host", self.host)
        if self.port is not None:
            _within("mqtt.port", self.port, 1, 65535)
        _within("mqtt.every_s", self.every_s, 0.1, 86400)
        _within("mqtt.queue", self.queue, 10, 10_000)
        for name, topic in (("topic", self.topic), ("discovery_prefix", self.discovery_prefix)):
            if not re.fullmatch(r"[A-Za-z0-9_-]+(/[A-Za-z0-9_-]+)*", topic):
                raise ValueError(
                    f"mqtt.{name} may hold letters, digits, - and _ between single slashes, not {topic!r}"
                )
            _no_longer(f"mqtt.{name}", topic, 200)
        if not self.device or self.device != plain_name(self.device):
            raise ValueError(f"mqtt.device may hold letters, digits, - and _, not {self.device!r}")
        _no_longer("mqtt.device", self.device, 200)
        if not self.tls and (self.ca_file or self.cert_file or self.key_file):
            raise ValueError(
                "mqtt.ca_file, cert_file and key_file mean nothing without tls: true; add it"
            )


@dataclass(frozen=True, slots=True)
class PrometheusConfig:
    """Metrics, to be scraped over HTTP, or in a text file for node_exporter, or both."""

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
                f"prometheus.textfile must end in .prom, or node_exporter passes over it: {self.textfile}"
            )
        _within("prometheus.every_s", self.every_s, 1, 3600)


@dataclass(frozen=True, slots=True)
class Condition:
    """One thing that a record is asked: exactly one of ``label``, ``state``, ``all``, ``any``, ``not``.

    ``label`` alone: it is on. With ``min_score`` or ``max_score``: its score is at least, at most that.
    """

    label: str | None = field(default=None, metadata={"short": True, "any_word": True})  # when: fog
    min_score: float | None = None
    max_score: float | None = None
    state: RecordState | None = None
    all: tuple[Condition, ...] | None = None
    any: tuple[Condition, ...] | None = None
    not_: Condition | None = field(default=None, metadata={"key": "not"})

    def __post_init__(self) -> None:
        kinds = {
            "label": self.label,
            "state": self.state,
            "all": self.all,
            "any": self.any,
            "not": self.not_,
        }
        given = [name for name, value in kinds.items() if value is not None]
        if len(given) != 1:
            raise ValueError(
                f"a condition is one of {', '.join(kinds)}; this has {' and '.join(given) or 'none'}"
            )
        if self.all == () or self.any == ():
            raise ValueError("all and any need at least one condition below them")
        for name, value in (("min_score", self.min_score), ("max_score", self.max_score)):
            if value is not None:
                if self.label is None:
                    raise ValueError(f"{name} belongs to a label; write it beside one")
                _within(name, value, 0, 1)

    @property
    def labels(self) -> set[str]:
        """Every label it asks about."""
        inner = (*(self.all or ()), *(self.any or ()), *((self.not_,) if self.not_ else ()))
        return set().union(
            *(condition.labels for condition in inner), {self.label} if self.label else set()
        )


@dataclass(frozen=True, slots=True)
class TriggerRule:
    """When to keep something, and what."""

    name: str
    when: Condition | None = None
    edge: Literal["rising", "level"] = "rising"
    save: Literal["snapshot", "clip"] = "snapshot"
    min_interval_s: float = 10.0
    pre_s: float = 0.0
    post_s: float = 0.0
    min_distance: float | None = None

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[A-Za-z0-9_-]{1,40}", self.name):
            raise ValueError(
                f"a rule's name is part of a file's name: letters, digits, - and _, not {self.name!r}"
            )
        _within("min_interval_s", self.min_interval_s, 0, 86400)
        _within("pre_s", self.pre_s, 0, 30)
        _within("post_s", self.post_s, 0, 60)
        if self.save == "snapshot" and (self.pre_s or self.post_s):
            raise ValueError(f"rule {self.name}: pre_s and post_s are for save: clip")
        if self.save == "clip" and not (self.pre_s or self.post_s):
            raise ValueError(f"rule {self.name}: a clip needs pre_s or post_s")
        if self.when is None and self.min_distance is None:
            raise ValueError(
                f"rule {self.name} would keep everything; give it when, or min_distance"
            )
        if self.min_distance is not None:
            _within("min_distance", self.min_distance, 0.001, 2)


@dataclass(frozen=True, slots=True)
class TriggersConfig:
    """Keep the pictures that are worth it, in a folder that never grows beyond its cap."""

    spool: str
    rules: tuple[TriggerRule, ...]
    max_mb: float = 500.0
    clip_fps: float = 5.0
    ring_mb: float = 8.0
    hook: tuple[str, ...] = ()
    hook_timeout_s: float = 60.0
    delete_after_hook: bool = False

    def __post_init__(self) -> None:
        _within("triggers.max_mb", self.max_mb, 0.1, 1e6)
        _within("triggers.clip_fps", self.clip_fps, 0.2, 60)
        _within("triggers.ring_mb", self.ring_mb, 0.1, 64)
        _within("triggers.hook_timeout_s", self.hook_timeout_s, 1, 3600)
        if not self.rules:
            raise ValueError("triggers.rules is empty; add at least one '- name: ...' under it")
        names = [rule.name for rule in self.rules]
        if len(set(names)) < len(names):
            raise ValueError("two rules have the same name; names must differ")
        if self.delete_after_hook and not self.hook:
            raise ValueError(
                "triggers.delete_after_hook needs triggers.hook; add it, or set it to false"
            )


@dataclass(frozen=True, slots=True)
class PreviewConfig:
    """The page that shows what the camera sees."""

    listen: str = field(default="127.0.0.1:8080", metadata={"short": True})
    token_file: str | None = None

    def __post_init__(self) -> None:
        check_listen("preview", self.listen, self.token_file)


@dataclass(frozen=True, slots=True)
class Config:
    """All of it. A section that is None is off."""

    camera: CameraConfig = field(default_factory=CameraConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    privacy: PrivacyConfig = field(default_factory=PrivacyConfig)
    consensus: ConsensusConfig = field(default_factory=ConsensusConfig)
    thermal: ThermalConfig = field(default_factory=ThermalConfig)
    output: OutputConfig = field(default_factory=OutputConfig)
    mqtt: MqttConfig | None = None
    prometheus: PrometheusConfig | None = None
    triggers: TriggersConfig | None = None
    preview: PreviewConfig | None = None

    def __post_init__(self) -> None:
        metrics = self.prometheus.listen if self.prometheus else None
        if self.preview and metrics and parse_listen(metrics) == parse_listen(self.preview.listen):
            raise ValueError(
                f"prometheus.listen and preview.listen are both {metrics}; give one another port"
            )


def plain_name(text: str) -> str:
    """``text`` with only what is safe in a topic, a file name and a URL: letters, digits, ``-`` and ``_``."""
    return re.sub(r"[^A-Za-z0-9_-]+", "-", text).strip("-")


def check_host(name: str, host: str) -> None:
    """Raise ValueError for what is neither a host's name nor an IP address, with what to write instead."""
    scheme, separator, rest = host.rpartition("://")
    _user, at, rest = rest.rpartition("@")  # never echoed: there may be a password in it
    rest = rest.split("/", 1)[0]
    bare, port = _split_port(rest)
    if separator or at or port or bare != rest:
        advice = [f"write host: {printable(bare)}"]
        if port:
            advice.append(f"port: {port}")
        if scheme.lower() in ("mqtts", "ssl", "tls"):
            advice.append("tls: true")
        if at:
            advice.append("user and password into credentials_file")
        raise ValueError(
            f"{name} is a name or an address, without scheme, port or user; {', '.join(advice)}"
        )
    try:
        ipaddress.ip_address(host)
    except ValueError:
        if not _is_host_name(host):
            raise ValueError(
                f"{name} {host[:80]!r} cannot be the name of a host; write a name or an address"
            ) from None


def _split_port(place: str) -> tuple[str, str]:
    """``x:1883`` and ``[::1]:1883`` as host and port; an IPv6 address without brackets has colons of its own."""
    bracketed = re.fullmatch(r"\[([^\]]*)\](?::(\d*))?", place, re.ASCII)
    if bracketed:
        return bracketed[1], bracketed[2] or ""
    named = re.fullmatch(r"([^:]*):(\d{1,5})", place, re.ASCII)
    return (named[1], named[2]) if named else (place, "")


def _is_host_name(host: str) -> bool:
    """Whether it can be looked up: a label has 1 to 63 bytes in IDNA's form, all of it 253."""
    if not host.isprintable() or re.search(r"[\s/\\:?#,;'\"<>\[\]]", host):
        return False
    try:
        return 0 < len(host.encode("idna")) <= 253
    except UnicodeError:
        return False


def parse_listen(listen: str) -> tuple[str, int]:
    """(IP address, port) of ``127.0.0.1:8080``, ``[::1]:8080`` or ``localhost:8080``. Raises ValueError."""
    host, _, port = listen.rpartition(":")
    host = "127.0.0.1" if host == "localhost" else host
    bare = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    try:
        address = ipaddress.ip_address(bare)
    except ValueError:
        raise ValueError(f"'{listen}' is not ADDRESS:PORT, such as 127.0.0.1:8080") from None
    if not (port.isascii() and port.isdecimal() and int(port) < 65536) or (
        address.version == 6
    ) == (bare == host):
        raise ValueError(f"'{listen}' is not ADDRESS:PORT, such as 127.0.0.1:8080 or [::1]:8080")
    return bare, int(port)


def check_listen(section: str, listen: str, token_file: str | None) -> None:
    """Raise ValueError for an address that others can reach when there is no token to keep them out."""
    host, _ = parse_listen(listen)
    if token_file is None and not ipaddress.ip_address(host).is_loopback:
        raise ValueError(
            f"{section}.listen {listen} can be reached by others, so it needs {section}.token_file; "
            "or use 127.0.0.1 and an SSH tunnel"
        )


def _no_longer(name: str, text: str, than: int) -> None:
    if len(text) > than:
        raise ValueError(f"{name} has {len(text)} characters; it may have {than}")


def _within(name: str, value: float, low: float, high: float) -> None:
    if not low <= value <= high:
        raise ValueError(f"{name} must be between {low} and {high}, not {value}")


def load_config(path: Path) -> Config:
    """Read a configuration file. Raises NoInputError, or ConfigError naming line and nearest key."""
    return strict_yaml.parse(strict_yaml.read_text(path, "configuration file"), str(path), Config)
