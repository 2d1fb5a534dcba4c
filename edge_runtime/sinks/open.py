"""Opens the sinks that a configuration asks for: one line for each sink, in `_runners`.

A sink's module is imported when its section of the configuration is there, and not before.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from edge_runtime.config import (
    Config,
    MqttConfig,
    OutputConfig,
    PreviewConfig,
    PrometheusConfig,
    TriggersConfig,
)
from edge_runtime.engine import Engine
from edge_runtime.errors import ConfigError
from edge_runtime.model.labels.compiled import CompiledLabels
from edge_runtime.records import CameraState, Frame
from edge_runtime.sinks.base import Retiring, Sink, SinkRunner
from edge_runtime.sinks.inline import InlineSink
from edge_runtime.sinks.thread import SinkThread

if TYPE_CHECKING:
    from edge_runtime.sinks.web.editor import Editor

SMALL_WIDTH = 640  # pixels: of preview pictures and clips, where we encode them


@dataclass(frozen=True, slots=True)
class SinkContext:
    """What sinks may know of the rest of the program.

    Attributes:
        labels: The labels of the records that these sinks will get.
        engine: Model and labels in use at the moment of the call. A reload may exchange them and
            keep the sinks.
        camera_state: The state of the camera at the moment of the call.
        live: The source is a camera. Its frames do not wait for a sink.
        use_labels: Label with other labels from the next frame on, instead of those of an engine.
            Waits for that frame, and raises EdgeLabelError where the labels are refused.
        finite: The source is a file or folder that is read once. Every record of it must be stored.
    """

    labels: CompiledLabels
    engine: Callable[[], Engine]
    camera_state: Callable[[], CameraState]
    use_labels: Callable[[CompiledLabels, Engine], None]
    live: bool
    finite: bool = False

    def label_names(self) -> Sequence[str]:
        """Names of the labels that records report, at the moment of the call."""
        return self.engine().score.labels.reported


def open_sinks(config: Config, context: SinkContext) -> list[SinkRunner]:
    """Open every sink whose section of the configuration is there.

    The last one opened comes first in the list. Raises ConfigError for a sink that cannot be
    opened; the others are closed then.
    """
    runners: list[SinkRunner] = []
    try:
        for runner in _runners(config, context):
            runners.insert(0, runner)
    except BaseException:
        for runner in runners:
            runner.close()
        raise
    return runners


def check_labels(config: Config, labels: CompiledLabels) -> None:
    """Raise ConfigError for a trigger rule on a label that ``labels`` does not have.

    `open_sinks` does this too. A reload that changes only the labels keeps its sinks and calls
    this.
    """
    if config.triggers:
        from edge_runtime.sinks.triggers import rules

        rules.check_labels(config.triggers, labels.reported)


def retire(runners: Iterable[SinkRunner], successor: Config) -> None:
    """Tell sinks that a reload is about to close which configuration follows them."""
    for runner in runners:
        if isinstance(runner.sink, Retiring):
            runner.sink.retire(successor)


def _runners(config: Config, context: SinkContext) -> Iterator[SinkRunner]:
    """One sink after the other, so that those already open are known when the next one fails."""
    output = config.output
    if config.mqtt:
        yield _mqtt(config.mqtt, context)
    if config.prometheus:
        yield _prometheus(config.prometheus, context)
    if config.triggers:
        yield _triggers(config.triggers, context)
    if config.preview:
        yield _preview(config.preview, context)

    # The records themselves come last. A mistake in another section then leaves no empty record
    # file, and the end of a run, which has little time, closes these first.
    if output.file:
        yield _of_records(_record_file(Path(output.file), output, context), context)
    if output.stdout or not output.file:
        yield _of_records(_standard_output(), context)


def _mqtt(config: MqttConfig, context: SinkContext) -> SinkRunner:
    from edge_runtime.sinks.mqtt.pace import Pace
    from edge_runtime.sinks.mqtt.sink import MqttSink

    pictures = config.picture_s is not None
    pace = Pace(context.label_names, config.picture_s)
    sink = MqttSink(config, _small_jpeg() if pictures else None)
    return SinkThread(sink, lossless=False, pictures=pictures, chooser=pace)


def _small_jpeg() -> Callable[[Frame], bytes]:
    """Encodes a frame for somebody who looks at it, no wider than `SMALL_WIDTH`."""
    from edge_runtime.camera.jpeg import JpegEncoder

    return JpegEncoder(quality=75, max_width=SMALL_WIDTH)


def _prometheus(config: PrometheusConfig, context: SinkContext) -> SinkRunner:
    from edge_runtime.sinks.web.prometheus import PrometheusSink

    return InlineSink(PrometheusSink(config, context.camera_state, context.label_names))


def _triggers(config: TriggersConfig, context: SinkContext) -> SinkRunner:
    from edge_runtime.camera.jpeg import JpegEncoder
    from edge_runtime.sinks.triggers.rules import Rules
    from edge_runtime.sinks.triggers.sink import TriggerSink

    rules = Rules(config, context.labels.reported)
    sink = TriggerSink(config, JpegEncoder(), JpegEncoder(max_width=SMALL_WIDTH))
    return SinkThread(sink, lossless=not context.live, pictures=True, chooser=rules)


def _preview(config: PreviewConfig, context: SinkContext) -> SinkRunner:
    from edge_runtime.sinks.web.preview import PreviewSink

    editor = _editor(context) if config.edit else None
    sink = PreviewSink(
        config, _small_jpeg(), context.camera_state, lambda: context.engine().score, editor
    )
    return InlineSink(sink)


def _editor(context: SinkContext) -> Editor:
    from edge_runtime.sinks.web.editor import Editor
    from edge_runtime.system.state import state_folder

    folder = state_folder()
    if folder is None:
        raise ConfigError(
            "preview.edit: this user has no home to keep labels and pictures in",
            "set $STATE_DIRECTORY to a folder",
        )
    return Editor(folder, context.engine, context.use_labels)


def _of_records(sink: Sink, context: SinkContext) -> SinkRunner:
    """A finite run has no purpose without its records, so there these sinks are vital."""
    return SinkThread(sink, lossless=not context.live, vital=context.finite)


def _record_file(path: Path, config: OutputConfig, context: SinkContext) -> Sink:
    """The file has its cap unless the run is finite: then no record may be missing."""
    from edge_runtime.sinks.files.jsonl import JsonlFileSink
    from edge_runtime.sinks.files.record_file import Caps

    caps = Caps(
        total=config.max_mb * 1_000_000,
        rotate=config.rotate_mb * 1_000_000,
        rotate_s=config.rotate_hours * 3600,
        sync_s=config.sync_s,
    )
    return JsonlFileSink(path, None if context.finite else caps)


def _standard_output() -> Sink:
    """For a person at a terminal, a line that keeps changing; for a program, JSON lines."""
    from edge_runtime.sinks.console import ConsoleSink
    from edge_runtime.sinks.files.jsonl import JsonlStdoutSink

    return ConsoleSink() if sys.stdout.isatty() else JsonlStdoutSink()
