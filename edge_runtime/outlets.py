"""The optional sinks, as the configuration asks for them. Imports nothing of a sink that is off."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from edge_runtime.config import Config
from edge_runtime.model.labels import CompiledLabels
from edge_runtime.records import CameraState
from edge_runtime.sinks import InlineSink, Outlet, SinkThread

PREVIEW_WIDTH = 640


@dataclass(frozen=True, slots=True)
class Running:
    """What a sink may ask about the running parts. Functions, because a reload exchanges the parts."""

    labels: Callable[[], CompiledLabels]
    camera_state: Callable[[], CameraState]


def optional_outlets(config: Config, running: Running) -> list[Outlet]:
    """Every sink whose section of the configuration is there. None of them ever holds up a frame."""
    outlets: list[Outlet] = []
    if config.mqtt:
        from edge_runtime.sinks.mqtt import MqttSink

        outlets.append(SinkThread(MqttSink(config.mqtt, lambda: running.labels().names), lossless=False))
    if config.prometheus:
        from edge_runtime.sinks.prometheus import PrometheusSink

        outlets.append(InlineSink(PrometheusSink(config.prometheus, running.camera_state)))
    if config.preview:
        from edge_runtime.camera.jpeg import JpegEncoder
        from edge_runtime.sinks.preview import PreviewSink

        to_jpeg = JpegEncoder(quality=75, max_width=PREVIEW_WIDTH)
        outlets.append(InlineSink(PreviewSink(config.preview, to_jpeg, running.camera_state)))
    return outlets
