"""The configuration file as frozen dataclasses.

One dataclass is one section, and a field's default is the product's default. Options of the
command line override fields. systemd/edge-label.yaml, with its comments, is the manual.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from edge_runtime.config.addresses import parse_listen, plain_name
from edge_runtime.config.labelling import (
    CameraConfig,
    ConsensusConfig,
    ModelConfig,
    PrivacyConfig,
    ThermalConfig,
)
from edge_runtime.config.outputs import MqttConfig, OutputConfig, PreviewConfig, PrometheusConfig
from edge_runtime.config.triggers import Condition, TriggerRule, TriggersConfig
from edge_runtime.system import strict_yaml

__all__ = [
    "CameraConfig",
    "Condition",
    "Config",
    "ConsensusConfig",
    "ModelConfig",
    "MqttConfig",
    "OutputConfig",
    "PreviewConfig",
    "PrivacyConfig",
    "PrometheusConfig",
    "ThermalConfig",
    "TriggerRule",
    "TriggersConfig",
    "load_config",
    "parse_listen",
    "plain_name",
]


@dataclass(frozen=True, slots=True)
class Config:
    """The whole configuration. A section that is None is off."""

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
                f"prometheus.listen and preview.listen are both {metrics}; "
                "give one of them another port"
            )


def load_config(path: Path) -> Config:
    """Read a configuration file.

    Raises NoInputError, or ConfigError with the line and the nearest key.
    """
    return strict_yaml.parse(strict_yaml.read_text(path, "configuration file"), str(path), Config)
