"""The configuration file as frozen dataclasses. systemd/edge-label.yaml, with its comments, is the manual.

One dataclass a section; a field's default is the product's default. Command-line options override fields.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from edge_runtime import strict_yaml


@dataclass(frozen=True, slots=True)
class CameraConfig:
    """Where frames come from."""

    source: str = "/dev/video0"
    width: int = 640
    height: int = 480
    fps: int = 30
    fourcc: Literal["auto", "MJPG", "YUYV"] = "auto"
    realtime: bool = False
    loop: bool = False
    exit_on_error: bool = False

    def __post_init__(self) -> None:
        _within("camera.width", self.width, 16, 8192)
        _within("camera.height", self.height, 16, 8192)
        _within("camera.fps", self.fps, 1, 240)


@dataclass(frozen=True, slots=True)
class ModelConfig:
    """What looks at them, and for which words."""

    bundle: str | None = None
    labels: str = "everyday"
    threads: int | None = None
    top_k: int = 10

    def __post_init__(self) -> None:
        if self.threads is not None:
            _within("model.threads", self.threads, 1, 64)
        _within("model.top_k", self.top_k, 1, 1000)


@dataclass(frozen=True, slots=True)
class OutputConfig:
    """Where records go. Without a file: stdout as JSON lines, or a live line on a terminal."""

    file: str | None = None


@dataclass(frozen=True, slots=True)
class Config:
    """All of it."""

    camera: CameraConfig = field(default_factory=CameraConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    output: OutputConfig = field(default_factory=OutputConfig)


def _within(name: str, value: float, low: float, high: float) -> None:
    if not low <= value <= high:
        raise ValueError(f"{name} must be between {low} and {high}, not {value}")


def load_config(path: Path) -> Config:
    """Read a configuration file. Raises NoInputError, or ConfigError naming line and nearest key."""
    return strict_yaml.parse(strict_yaml.read_text(path, "configuration file"), str(path), Config)
