"""The optional sinks, as the configuration asks for them. Imports nothing of a sink that is off."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from edge_runtime.config import Config
from edge_runtime.model.labels.labels import CompiledLabels
from edge_runtime.records import CameraState
from edge_runtime.sinks import InlineSink, Outlet, SinkThread

SMALL_WIDTH = 640  # of preview pictures and clips, where they are encoded here


@dataclass(frozen=True, slots=True)
class Running:
    """What a sink may ask about the running parts. Functions, because a reload exchanges the parts."""

    labels: Callable[[], CompiledLabels]
    camera_state: Callable[[], CameraState]


@runtime_checkable
class Retiring(Protocol):
    """A sink with something to clear when a reload closes it."""

    def retire(self, successor: Config) -> None:
        """Before ``close``: the sinks of ``successor`` follow."""


def optional_outlets(
    config: Config, running: Running, labels: CompiledLabels, *, live: bool
) -> list[Outlet]:
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


def check_labels(config: Config, labels: CompiledLabels) -> None:
    """Raise ConfigError for a rule on a label that is not there: a reload of the labels alone keeps its sinks."""
    if config.triggers:
        from edge_runtime.sinks.triggers.sink import check_labels as check

        check(config.triggers, labels.reported)


def retire(outlets: Iterable[Outlet], config: Config) -> None:
    """Tell those that a reload is about to close what comes after them: some leave things behind elsewhere."""
    for outlet in outlets:
        if isinstance(outlet.sink, Retiring):
            outlet.sink.retire(config)


def _outlets(
    config: Config, running: Running, labels: CompiledLabels, *, live: bool
) -> Iterator[Outlet]:
    def label_names() -> tuple[str, ...]:
        return running.labels().reported

    if config.mqtt:
        from edge_runtime.sinks.mqtt.sink import MqttSink, Pace

        yield SinkThread(MqttSink(config.mqtt), lossless=False, chooser=Pace(label_names))
    if config.prometheus:
        from edge_runtime.sinks.web.prometheus import PrometheusSink

        yield InlineSink(PrometheusSink(config.prometheus, running.camera_state, label_names))
    if config.triggers:
        from edge_runtime.camera.jpeg import JpegEncoder
        from edge_runtime.sinks.triggers.sink import Rules, TriggerSink

        rules = Rules(config.triggers, labels.reported)
        triggers = TriggerSink(config.triggers, JpegEncoder(), JpegEncoder(max_width=SMALL_WIDTH))
        yield SinkThread(triggers, lossless=not live, pictures=True, chooser=rules)
    if config.preview:
        from edge_runtime.camera.jpeg import JpegEncoder
        from edge_runtime.sinks.web.preview import PreviewSink

        to_jpeg = JpegEncoder(quality=75, max_width=SMALL_WIDTH)
        yield InlineSink(PreviewSink(config.preview, to_jpeg, running.camera_state))
