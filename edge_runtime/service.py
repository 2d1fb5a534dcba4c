"""The daemon: one source, one pipeline, its sinks; signals, watchdog, reload, and an orderly end."""

from __future__ import annotations

import logging
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from types import FrameType

from edge_runtime.camera import open_source
from edge_runtime.camera.privacy import Privacy
from edge_runtime.config import CameraConfig, Config, ConsensusConfig, ModelConfig, PrivacyConfig, ThermalConfig
from edge_runtime.errors import EdgeLabelError
from edge_runtime.model.bundle import Bundle, find_bundle, load_bundle
from edge_runtime.model.labels import CompiledLabels, load_labels
from edge_runtime.model.self_test import self_test
from edge_runtime.model.store import BundleStore
from edge_runtime.notify import Notifier
from edge_runtime.outlets import Running, optional_outlets
from edge_runtime.pipeline import Engine, Pipeline
from edge_runtime.records import Frame, LabelRecord
from edge_runtime.sinks import Outlet, Sink, SinkThread
from edge_runtime.sinks.console import ConsoleSink, live_line
from edge_runtime.sinks.jsonl import JsonlFileSink, JsonlStdoutSink
from edge_runtime.sinks.record_file import Caps
from edge_runtime.telemetry import ThermalGovernor, peak_rss_mb, release_memory

log = logging.getLogger("edge_label")

_POLL_S = 1.0  # a second without a frame gets a record that says why
_NAP_S = 0.2  # how late a sleep may notice that the end was asked for
_CLOSE_S = 3.0  # what all sinks together get to write what is queued; SIGTERM to exit stays under 5 s


def load_model(config: ModelConfig) -> tuple[Bundle, CompiledLabels]:
    """The verified bundle and the compiled label set; the text bank is freed again on return."""
    path = find_bundle(config.bundle)
    bundle = load_bundle(path.resolve() if path.is_symlink() else path)  # an install may switch the link meanwhile
    return bundle, load_labels(config.labels, bundle)


def load_engine(config: ModelConfig, old: Engine | None = None) -> Engine:
    """Bundle and labels, ready to label; ``old`` lends what has not changed."""
    bundle, labels = load_model(config)
    release_memory()
    engine = Engine(bundle, labels, config, old)
    release_memory()
    return engine


def start_engine(config: ModelConfig, old: Engine | None = None) -> Engine:
    """``load_engine``, and the trial of a bundle that was just installed: if it fails, the previous one is back."""
    path = find_bundle(config.bundle)
    store = BundleStore.of(path)
    if store is None:
        return load_engine(config, old)
    if store.begin():
        log.warning("%s: the last start died on a new bundle; the previous one is back", store.root)
    try:
        if store.on_trial():
            self_test(load_bundle(path.resolve()))
        engine = load_engine(config, old)
    except EdgeLabelError as error:
        if not store.roll_back():
            raise
        log.warning("new bundle rolled back: %s", error)
        if old is not None:
            raise  # a reload: what runs goes on running
        return load_engine(config)
    store.passed()
    return engine


@dataclass(slots=True)
class Limits:
    """When to stop: after so many records, after so many seconds, or never."""

    frames: int | None = None
    seconds: float | None = None


def frame_interval_s(camera: CameraConfig, slowed: int) -> float:
    """Least time between two labelled frames: the rate asked for, and ``slowed`` camera frames on a hot CPU.

    The longer of both, never their product: a cap has cooled already, and the watchdog waits for the next record.
    """
    asked = 0.0 if camera.max_fps is None else 1 / camera.max_fps
    return max(asked, slowed / camera.fps if slowed > 1 else 0.0)


class Signals:
    """SIGTERM and SIGINT ask for the end, SIGHUP for a reload. The handlers set flags and nothing else.

    Plain attributes: a handler runs in the middle of whatever the main thread does, and ``threading.Event`` has a lock
    that it would wait for without end where the main thread holds it.
    """

    def __init__(self) -> None:
        self.stop = False
        self.reload = False
        for number, handler in (
            (signal.SIGTERM, self._stop),
            (signal.SIGINT, self._stop),
            (signal.SIGHUP, self._reload),
        ):
            signal.signal(number, handler)

    def _stop(self, _number: int, _frame: FrameType | None) -> None:
        self.stop = True

    def _reload(self, _number: int, _frame: FrameType | None) -> None:
        self.reload = True

    def sleep_until(self, moment_s: float) -> None:
        """Wait until monotonic ``moment_s``, or until the end is asked for."""
        while not self.stop and (left_s := moment_s - time.monotonic()) > 0:
            time.sleep(min(left_s, _NAP_S))


def run(config: Config, limits: Limits, read_again: Callable[[], Config] | None = None) -> None:
    """Label until the source ends, a limit is reached, or SIGTERM or SIGINT arrives; all sinks flushed.

    ``read_again`` reads the configuration anew for SIGHUP. Raises EdgeLabelError for what stops a start.
    """
    signals = Signals()
    notifier = Notifier()
    daemon = Daemon(config)
    try:
        notifier.ready("loaded, opening the camera")
        daemon.loop(limits, signals, notifier, read_again or (lambda: config))
    finally:
        notifier.stopping("writing what is queued")
        daemon.close()


class Daemon:
    """The running parts: ``source``, ``pipeline`` and ``sinks``, built from one Config and exchanged by a reload."""

    def __init__(self, config: Config) -> None:
        engine = start_engine(config.model)
        self.config = config
        self.source = open_source(config.camera)
        self.pipeline = Pipeline(
            engine,
            camera=self.source.name,
            thermal=Path(config.thermal.zones),
            privacy=Privacy.of(config.privacy),
            consensus=config.consensus,
        )
        self._governor = ThermalGovernor(config.thermal.limit_c)
        self.sinks = self._start_sinks(config, engine, live=self.source.live)
        self.summary = Summary()
        self._lost_before = self._deleted_before = 0  # by sinks that a reload has closed

    def loop(self, limits: Limits, signals: Signals, notifier: Notifier, read_again: Callable[[], Config]) -> None:
        """Frame by frame until the end. Everything happens between frames, so a reload never meets an inference."""
        deadline = time.monotonic() + limits.seconds if limits.seconds else float("inf")
        while not signals.stop and time.monotonic() < deadline:
            if signals.reload:
                signals.reload = False
                self._reload(read_again, notifier)
            start = time.monotonic()
            frame = self.source.read(self._patience_s)
            if frame is None and self.source.ended:
                return
            taken = time.monotonic()
            record = self._label(frame, taken - start)
            notifier.alive(self._status(record))
            if limits.frames and self.summary.records >= limits.frames:
                return
            if frame is not None and self.source.live:
                signals.sleep_until(min(deadline, taken + self._pause_s(record)))

    def _label(self, frame: Frame | None, waited_s: float) -> LabelRecord:
        """Every second has its record: of a frame, or of the reason why there is none."""
        counters = self.pipeline.counters
        counters.lost = self._lost_before + sum(sink.lost for sink in self.sinks)
        counters.deleted = self._deleted_before + _deleted(self.sinks)
        if frame is None:
            record = self.pipeline.explain(self.source.state, waited_s)
        else:
            record = self.pipeline.process(frame)
            self.summary.add(record)
        for sink in self.sinks:
            sink.put(record, frame)
        return record

    def _pause_s(self, record: LabelRecord) -> float:
        """From one labelled camera frame to the next, in seconds; says when a hot CPU changes it."""
        slowed = self._governor(record.temp_c, time.monotonic())
        if slowed != self.pipeline.counters.slowed:
            self.pipeline.counters.slowed = slowed
            log.warning("CPU at %s °C: labelling one of %d frames", record.temp_c, slowed)
        return frame_interval_s(self.config.camera, slowed)

    def _status(self, record: LabelRecord) -> str:
        camera = self.source.state
        return live_line(record) if camera == "ok" else f"camera {camera.replace('_', ' ')}"

    @property
    def _patience_s(self) -> float:
        """How long a camera may be silent before a record says so: a second, or three of its frames."""
        return max(_POLL_S, 3 / self.config.camera.fps)

    def close(self) -> None:
        """Stop the camera, flush every sink, say in one line what the run was."""
        self.source.close()
        lost = self._lost_before + _close_sinks(self.sinks)
        if self.summary.records:
            log.info("%s", self.summary.text(lost))

    def _reload(self, read_again: Callable[[], Config], notifier: Notifier) -> None:
        notifier.reloading()
        try:
            self._switch_to(read_again())
        except EdgeLabelError as error:
            log.warning("reload refused, the old configuration stays: %s", error)
            notifier.ready(f"reload refused: {error}")
        else:
            log.info("reloaded")
            notifier.ready("reloaded")

    def _switch_to(self, config: Config) -> None:
        """Build everything new first; what can fail fails here, before anything old is touched."""
        old = self.config
        engine = start_engine(config.model, self.pipeline.engine)
        source = self.source if config.camera == old.camera else open_source(config.camera)
        sinks = self.sinks if _outputs(config) == _outputs(old) else self._start_sinks(config, engine, live=source.live)
        if source is not self.source:
            self.source.close()  # the new one opens its device at the first read
        if sinks is not self.sinks:
            self._lost_before += _close_sinks(self.sinks)
            self._deleted_before += _deleted(self.sinks)
        self.config, self.source, self.sinks = config, source, sinks
        privacy = Privacy.of(config.privacy)
        self.pipeline.switch(engine, source.name, Path(config.thermal.zones), privacy, config.consensus)
        self._governor = ThermalGovernor(config.thermal.limit_c)

    def _start_sinks(self, config: Config, engine: Engine, *, live: bool) -> list[Outlet]:
        running = Running(
            labels=lambda: self.pipeline.engine.score.labels,
            camera_state=lambda: self.source.state,
        )
        outlets = optional_outlets(config, running, engine.score.labels, live=live)
        try:
            return [SinkThread(sink, lossless=not live) for sink in _make_sinks(config, live=live)] + outlets
        except EdgeLabelError:
            _close_sinks(outlets)
            raise


def _outputs(config: Config) -> Config:
    """The part of a configuration that sinks are made of."""
    return replace(
        config,
        camera=CameraConfig(),
        model=ModelConfig(),
        privacy=PrivacyConfig(),
        consensus=ConsensusConfig(),
        thermal=ThermalConfig(),
    )


def _make_sinks(config: Config, *, live: bool) -> list[Sink]:
    """Where the records themselves go: a file, stdout, or for a person at a terminal a line that keeps changing."""
    output = config.output
    sinks: list[Sink] = []
    if output.file:
        rotate_s = output.rotate_hours * 3600
        caps = Caps(output.max_mb * 1_000_000, output.rotate_mb * 1_000_000, rotate_s, output.sync_s)
        sinks.append(JsonlFileSink(Path(output.file), caps if live else None))
    if output.stdout or not output.file:
        sinks.append(ConsoleSink() if sys.stdout.isatty() else JsonlStdoutSink())
    return sinks


def _deleted(sinks: list[Outlet]) -> int:
    return sum(outlet.sink.deleted for outlet in sinks if isinstance(outlet.sink, JsonlFileSink))


def _close_sinks(sinks: list[Outlet]) -> int:
    """Flush all sinks within ``_CLOSE_S`` together; returns how many records they lost."""
    deadline = time.monotonic() + _CLOSE_S
    for sink in sinks:
        sink.close(max(0.1, deadline - time.monotonic()))
    return sum(sink.lost for sink in sinks)


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
