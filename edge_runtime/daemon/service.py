"""The daemon: one source, one pipeline, its sinks; signals, watchdog, reload, and an orderly end."""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
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
from edge_runtime.daemon.notify import Notifier
from edge_runtime.daemon.signals import Signals
from edge_runtime.engine import Engine, start_engine
from edge_runtime.errors import EdgeLabelError, StuckError, one_line
from edge_runtime.pipeline import Pipeline
from edge_runtime.records import Frame, LabelRecord
from edge_runtime.sinks import SinkContext, SinkRunner, check_labels, open_sinks, retire
from edge_runtime.sinks.console import live_line
from edge_runtime.system.memory import peak_rss_mb
from edge_runtime.system.telemetry import ThermalGovernor

log = logging.getLogger("edge_label")

_POLL_S = 1.0  # how late a wait for a frame may notice the end
_PATIENCE_S = 20.0  # at most, until a record says that no frame came: the watchdog waits for one
_CLOSE_S = (
    3.0  # what all sinks together get to write what is queued; SIGTERM to exit stays under 5 s
)


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
    return max(asked, slowed / max(1.0, camera.fps) if slowed > 1 else 0.0)


class ThreadDeaths:
    """Notices a thread that an exception ended, whoever started it: a sink, its server, a library's own.

    Nothing would ever be heard of such a sink again. A new process starts all of them, so ``check`` ends this one.
    """

    def __init__(self) -> None:
        self.first = ""
        self._hook_before = threading.excepthook
        threading.excepthook = self._note

    def check(self) -> None:
        """Raise StuckError once a thread has died."""
        if self.first:
            raise StuckError(
                f"{self.first}",
                "only a new process can help, and a report of this line would help us",
            )

    def close(self) -> None:
        """Leave threads to whoever looked after them before."""
        threading.excepthook = self._hook_before

    def _note(self, died: threading.ExceptHookArgs) -> None:
        error = died.exc_value or died.exc_type()
        name = died.thread.name if died.thread else "unknown"
        self.first = (
            self.first or f"thread {name} died of {type(error).__name__}: {one_line(error)}"
        )
        log.debug("where thread %s died", name, exc_info=error)


def run(
    config: Config,
    limits: Limits,
    read_again: Callable[[], Config] | None = None,
    signals: Signals | None = None,
) -> None:
    """Label until the source ends, a limit is reached, or SIGTERM or SIGINT arrives; all sinks flushed.

    ``read_again`` reads the configuration anew for SIGHUP. ``signals`` are those that stand already, and perhaps have
    heard something. Raises EdgeLabelError for what stops a start.
    """
    signals = signals or Signals()
    deaths = ThreadDeaths()
    notifier = Notifier()
    daemon = Daemon(config)
    try:
        notifier.ready("loaded, opening the camera")
        daemon.loop(limits, signals, notifier, read_again or (lambda: config), deaths)
    finally:
        notifier.stopping("writing what is queued")
        daemon.close()
        deaths.close()
    daemon.check_sinks()  # again: the last records are only written now


@dataclass(frozen=True, slots=True)
class Parts:
    """What a reload exchanges, built and ready. Parts that stay the same are the old ones."""

    config: Config
    engine: Engine
    source: Source
    sinks: list[SinkRunner]
    privacy: Privacy | None


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
        self.sinks = self._start_sinks(config, engine, self.source)
        self.summary = Summary()
        self._lost_before = self._deleted_before = 0  # by sinks that a reload has closed
        self._before: Config | None = (
            None  # what a reload replaced, until the first frame of the new source
        )

    def loop(
        self,
        limits: Limits,
        signals: Signals,
        notifier: Notifier,
        read_again: Callable[[], Config],
        deaths: ThreadDeaths | None = None,
    ) -> None:
        """Frame by frame until the end. Everything happens between frames, so a reload never meets an inference."""
        deadline = time.monotonic() + limits.seconds if limits.seconds else float("inf")
        while not signals.stop and time.monotonic() < deadline:
            if deaths:
                deaths.check()
            if signals.reload:
                signals.reload = False
                self._reload(read_again, notifier)
            start = time.monotonic()
            try:
                frame = self._next_frame(signals, deadline)
                if frame is None and (
                    self.source.ended or signals.stop or time.monotonic() >= deadline
                ):
                    return
                taken = time.monotonic()
                record = self._label(frame, taken - start)
            except Exception as error:
                self._go_back(error, notifier)
                continue
            if record is None:
                notifier.alive("a picture is passed over")
                continue
            if frame is not None:
                self._before = None  # what a reload brought has proved itself
            self.check_sinks()
            notifier.alive(self._status(record))
            if limits.frames and self.summary.records >= limits.frames:
                return
            if frame is not None and self.source.live:
                signals.sleep_until(min(deadline, taken + self._pause_s(record)))

    def _next_frame(self, signals: Signals, deadline: float) -> Frame | None:
        """None after as long as the camera may be silent, and soon after a signal or the deadline."""
        until = min(deadline, time.monotonic() + min(self.source.patience_s, _PATIENCE_S))
        while True:
            left_s = until - time.monotonic()
            frame = self.source.read(max(0.0, min(left_s, _POLL_S)))
            if frame is not None or self.source.ended or signals.stop or left_s <= _POLL_S:
                return frame

    def _label(self, frame: Frame | None, waited_s: float) -> LabelRecord | None:
        """Every second has its record: of a frame, or of the reason why there is none.

        None for a picture of a folder that is not what the model takes.
        """
        counters = self.pipeline.counters
        counters.lost = self._lost_before + sum(sink.lost for sink in self.sinks)
        counters.deleted = self._deleted_before + _deleted(self.sinks)
        if frame is None:
            labelled = self.pipeline.explain(self.source.state, waited_s)
        else:
            try:
                labelled = self.pipeline.process(frame)
            except EdgeLabelError as error:
                self.source.refused(frame, error)
                return None
            self.summary.add(labelled.record)
        for sink in self.sinks:
            sink.put(labelled)
        return labelled.record

    def check_sinks(self) -> None:
        """Raise what makes it pointless to go on: a run over a file whose records cannot be stored."""
        for sink in self.sinks:
            if sink.failure is not None:
                raise sink.failure

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

    def close(self) -> None:
        """Stop the camera, flush every sink, say in one line what the run was."""
        self.source.close()
        lost = self._lost_before + _close_sinks(self.sinks)
        if self.summary.records:
            log.info("%s", self.summary.text(lost))

    def _reload(self, read_again: Callable[[], Config], notifier: Notifier) -> None:
        """Take the new configuration if all of it can be built; else say why not, and go on with the old one."""
        notifier.reloading()
        try:
            parts = self._build(read_again())
        except Exception as error:  # a file may hold anything; labelling goes on whatever it is
            why = one_line(error)
            log.warning("reload refused, the old configuration stays: %s", why)
            log.debug("where that was", exc_info=True)
            notifier.ready(f"reload refused: {why}")
            return
        self._before = self._before or self.config
        self._switch_to(parts)
        log.info("reloaded")
        notifier.ready("reloaded")

    def _go_back(self, error: Exception, notifier: Notifier) -> None:
        """A source can be opened and still give no frame that can be labelled: then the old configuration returns.

        Raises ``error`` itself where no reload is to blame, or where the old configuration cannot be built any more.
        """
        before = self._before
        if before is None or isinstance(error, StuckError):
            raise error
        try:
            parts = self._build(before)
        except Exception:
            raise error from None
        self._before = None
        self._switch_to(parts)
        why = one_line(error)
        log.warning("reload taken back, the old configuration is in use again: %s", why)
        notifier.ready(f"reload taken back: {why}")

    def _build(self, config: Config) -> Parts:
        """Everything new, beside the old: what can fail fails here, and leaves nothing open behind it."""
        old = self.config
        engine = start_engine(config.model, self.pipeline.engine)
        privacy = Privacy.of(config.privacy)
        source = self.source if config.camera == old.camera else open_source(config.camera)
        try:
            same = _outputs(config) == _outputs(old) and _kind(source, config.camera) == _kind(
                self.source, old.camera
            )
            if same:
                check_labels(config, engine.score.labels)
            sinks = self.sinks if same else self._start_sinks(config, engine, source)
        except BaseException:
            if source is not self.source:
                source.close()
            raise
        return Parts(config, engine, source, sinks, privacy)

    def _switch_to(self, parts: Parts) -> None:
        """Close what is replaced, and go on with the new parts."""
        if parts.source is not self.source:
            self.source.close()  # the new one opens its device at the first read
        if parts.sinks is not self.sinks:
            retire(self.sinks, parts.config)
            self._lost_before += _close_sinks(self.sinks)
            self._deleted_before += _deleted(self.sinks)
        config = parts.config
        self.config, self.source, self.sinks = config, parts.source, parts.sinks
        zones = Path(config.thermal.zones)
        self.pipeline.switch(
            parts.engine, parts.source.name, zones, parts.privacy, config.consensus
        )
        self._governor = ThermalGovernor(config.thermal.limit_c)

    def _start_sinks(self, config: Config, engine: Engine, source: Source) -> list[SinkRunner]:
        live, finite = _kind(source, config.camera)
        context = SinkContext(
            labels=engine.score.labels,
            current_labels=lambda: self.pipeline.engine.score.labels,
            camera_state=lambda: self.source.state,
            live=live,
            finite=finite,
        )
        return open_sinks(config, context)


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


def _kind(source: Source, camera: CameraConfig) -> tuple[bool, bool]:
    """(live, finite). Only a file or folder that is read once ends by itself; a pipe of that name may never end."""
    path = Path(camera.source)
    return source.live, not source.live and not camera.loop and (path.is_file() or path.is_dir())


def _deleted(sinks: list[SinkRunner]) -> int:
    """Record files and captures that made room for newer ones."""
    return sum(getattr(runner.sink, "deleted", 0) for runner in sinks)


def _close_sinks(sinks: list[SinkRunner]) -> int:
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
        seen = ", ".join(
            f"{name} {100 * n / self.records:.0f} %" for name, n in self._on.most_common(5)
        )
        return (
            f"{self.records} frames in {seconds:.1f} s: {self.records / seconds:.1f} FPS, "
            f"encode {self._encode_ms / self.records:.1f} ms mean, {self._dropped} dropped, {lost} records lost, "
            f"peak RSS {peak_rss_mb():.0f} MB; labels on: {seen or 'none'}"
        )
