"""The optional sinks, as the configuration asks for them. Imports nothing of a sink that is off."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from edge_runtime.config import Config
from edge_runtime.model.labels import CompiledLabels
from edge_runtime.records import CameraState
from edge_runtime.sinks import InlineSink, Outlet, SinkThread

SMALL_WIDTH = 640  # of preview pictures and clips, where they are encoded here


@dataclass(frozen=True, slots=True)
class Running:
    """What a sink may ask about the running parts. Functions, because a reload exchanges the parts."""

    labels: Callable[[], CompiledLabels]
    camera_state: Callable[[], CameraState]


def optional_outlets(config: Config, running: Running, labels: CompiledLabels, *, live: bool) -> list[Outlet]:
    """Every sink whose section of the configuration is there. None of them ever holds up a live frame.

    ``labels`` are those that will be scored, which during a reload are not yet those that ``running`` tells.
    """
    outlets: list[Outlet] = []
    try:
        for outlet in _outlets(config, running, labels, live=live):
            outlets.append(outlet)  # noqa: PERF402 - one by one, so that those made are known when the next one fails
    except BaseException:
        for outlet in outlets:
            outlet.close()
        raise
    return outlets


def _outlets(config: Config, running: Running, labels: CompiledLabels, *, live: bool) -> Iterator[Outlet]:
    if config.mqtt:
        from edge_runtime.sinks.mqtt import MqttSink

        mqtt = MqttSink(config.mqtt, lambda: running.labels().reported)
        yield SinkThread(mqtt, lossless=False, wants=mqtt.wants)
    if config.prometheus:
        from edge_runtime.sinks.prometheus import PrometheusSink

        yield InlineSink(PrometheusSink(config.prometheus, running.camera_state))
    if config.triggers:
        from edge_runtime.camera.jpeg import JpegEncoder
        from edge_runtime.sinks.triggers import TriggerSink

        clip_jpeg = JpegEncoder(max_width=SMALL_WIDTH)
        triggers = TriggerSink(config.triggers, JpegEncoder(), labels.reported, clip_jpeg)
        yield SinkThread(triggers, lossless=not live, pictures=True, wants=triggers.wants)
    if config.preview:
        from edge_runtime.camera.jpeg import JpegEncoder
        from edge_runtime.sinks.preview import PreviewSink

        to_jpeg = JpegEncoder(quality=75, max_width=SMALL_WIDTH)
        yield InlineSink(PreviewSink(config.preview, to_jpeg, running.camera_state))
