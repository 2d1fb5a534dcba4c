"""The parts of a running daemon that a reload exchanges, and how new ones are built beside them.

What must not live here: when to reload, and what to do where it fails. That is `service`.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from edge_runtime.camera import Source, open_source
from edge_runtime.camera.privacy import Privacy
from edge_runtime.config import (
    CameraConfig,
    Config,
    ConsensusConfig,
    ModelConfig,
    PrivacyConfig,
    ThermalConfig,
)
from edge_runtime.engine import Engine
from edge_runtime.sinks import SinkRunner, check_labels

# All sinks together get so long to write what is queued. SIGTERM to exit stays under 5 s.
_CLOSE_S = 3.0


@dataclass(slots=True)
class Parts:
    """What one configuration was built into."""

    config: Config
    engine: Engine
    source: Source
    privacy: Privacy | None
    sinks: list[SinkRunner]


OpenSinks = Callable[[Config, Engine, Source], list[SinkRunner]]


def build_beside(old: Parts, config: Config, engine: Engine, open_sinks: OpenSinks) -> Parts:
    """The parts of ``config``. Those that stay the same are the old ones, not copies.

    ``engine`` is that of ``config.model``.

    What can fail fails here, while the old parts still run, and leaves nothing open. Raises
    EdgeLabelError, or whatever a file's content makes a library raise.
    """
    privacy = Privacy.of(config.privacy)
    source = old.source
    if config.camera != old.config.camera:
        source = open_source(config.camera)

    try:
        sinks = old.sinks
        if _same_sinks(old, config, source):
            check_labels(config, engine.score.labels)
        else:
            sinks = open_sinks(config, engine, source)
    except BaseException:
        if source is not old.source:
            source.close()
        raise

    return Parts(config, engine, source, privacy, sinks)


def _same_sinks(old: Parts, config: Config, source: Source) -> bool:
    """Whether the sinks that run already are what ``config`` asks for."""
    same_config = sink_config(config) == sink_config(old.config)
    same_kind = run_kind(source, config.camera) == run_kind(old.source, old.config.camera)
    return same_config and same_kind


def sink_config(config: Config) -> Config:
    """A configuration in which only what the sinks are made of may differ from the defaults."""
    return replace(
        config,
        camera=CameraConfig(),
        model=ModelConfig(),
        privacy=PrivacyConfig(),
        consensus=ConsensusConfig(),
        thermal=ThermalConfig(),
    )


def run_kind(source: Source, camera: CameraConfig) -> tuple[bool, bool]:
    """(live, finite). A run is finite where its source is a file or folder that is read once.

    A named pipe is neither: it may never end.
    """
    path = Path(camera.source)
    finite = not source.live and not camera.loop and (path.is_file() or path.is_dir())
    return source.live, finite


def close_sinks(sinks: list[SinkRunner]) -> int:
    """Flush all sinks within ``_CLOSE_S`` together; returns how many records they lost."""
    deadline = time.monotonic() + _CLOSE_S
    for sink in sinks:
        # A sink that comes last behind a slow one still gets a moment.
        sink.close(max(0.1, deadline - time.monotonic()))
    return sum(sink.lost for sink in sinks)


def deleted_files(sinks: list[SinkRunner]) -> int:
    """How many record files and captures made room for newer ones."""
    return sum(getattr(runner.sink, "deleted", 0) for runner in sinks)
