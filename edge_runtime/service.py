"""The daemon: one source, one pipeline, its sinks, and an orderly end."""

from __future__ import annotations

import logging
import signal
import sys
import threading
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from edge_runtime.camera import Source, open_source
from edge_runtime.config import Config, ModelConfig
from edge_runtime.model.bundle import Bundle, find_bundle, load_bundle
from edge_runtime.model.labels import CompiledLabels, TextBank, compile_labels, load_label_set
from edge_runtime.pipeline import Pipeline
from edge_runtime.records import LabelRecord
from edge_runtime.sinks import Sink, SinkThread
from edge_runtime.sinks.console import ConsoleSink
from edge_runtime.sinks.jsonl import JsonlSink
from edge_runtime.telemetry import peak_rss_mb

log = logging.getLogger("edge_label")

_POLL_S = 1.0  # how often the loop looks up from a silent camera


def load_model(config: ModelConfig) -> tuple[Bundle, CompiledLabels]:
    """The verified bundle and the compiled label set; the text bank is freed again on return."""
    bundle = load_bundle(find_bundle(config.bundle))
    label_set = load_label_set(config.labels, bundle)
    return bundle, compile_labels(label_set, bundle, TextBank.from_bundle(bundle))


@dataclass(slots=True)
class Limits:
    """When to stop: after so many records, after so many seconds, or never."""

    frames: int | None = None
    seconds: float | None = None


def run(config: Config, limits: Limits) -> None:
    """Label until the source ends, a limit is reached, or SIGTERM or SIGINT arrives; all sinks flushed."""
    stop = threading.Event()

    def on_signal(_number: int, _frame: FrameType | None) -> None:
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, on_signal)
    bundle, labels = load_model(config.model)
    source = open_source(config.camera)
    sinks: list[SinkThread] = []
    summary = Summary()
    try:
        pipeline = Pipeline(bundle, labels, camera=source.name, threads=config.model.threads, top_k=config.model.top_k)
        sinks = [SinkThread(sink, lossless=not source.live) for sink in _make_sinks(config)]
        _loop(source, pipeline, sinks, limits, stop, summary)
    finally:
        source.close()
        for sink in sinks:
            sink.close()
        if summary.records:
            log.info("%s", summary.text(sum(sink.lost for sink in sinks)))


def _make_sinks(config: Config) -> list[Sink]:
    if config.output.file:
        return [JsonlSink(Path(config.output.file))]
    return [ConsoleSink() if sys.stdout.isatty() else JsonlSink(None)]


def _loop(
    source: Source,
    pipeline: Pipeline,
    sinks: list[SinkThread],
    limits: Limits,
    stop: threading.Event,
    summary: Summary,
) -> None:
    deadline = time.monotonic() + limits.seconds if limits.seconds else float("inf")
    while not stop.is_set() and time.monotonic() < deadline:
        frame = source.read(_POLL_S)
        if frame is None:
            if source.ended:
                return
            continue
        record = pipeline.process(frame)
        for sink in sinks:
            sink.put(record, frame)
        summary.add(record)
        if limits.frames and summary.records >= limits.frames:
            return


class Summary:
    """What a run was, for the last line of its log. Holds counts only, so a year of running stays small."""

    def __init__(self) -> None:
        self.records = 0
        self._start = time.monotonic()
        self._encode_ms = 0.0
        self._dropped = 0
        self._on: Counter[str] = Counter()

    def add(self, record: LabelRecord) -> None:
        self.records += 1
        self._encode_ms += record.ms.encode
        self._dropped = record.dropped
        self._on.update(label.name for label in record.labels if label.on)

    def text(self, lost: int) -> str:
        """One line: how much, how fast, how big, and what was seen most."""
        seconds = time.monotonic() - self._start
        seen = ", ".join(f"{name} {100 * n / self.records:.0f} %" for name, n in self._on.most_common(5))
        return (
            f"{self.records} frames in {seconds:.1f} s: {self.records / seconds:.1f} FPS, "
            f"encode {self._encode_ms / self.records:.1f} ms mean, {self._dropped} dropped, {lost} records lost, "
            f"peak RSS {peak_rss_mb():.0f} MB; labels on: {seen or 'none'}"
        )
