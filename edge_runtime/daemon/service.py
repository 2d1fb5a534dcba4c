"""The daemon: one source, one pipeline, its sinks, from frame to frame until the end.

What must not live here: how parts are built (`parts`), what happens to a frame
(`edge_runtime.pipeline`), how a record is written (`edge_runtime.sinks`).
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from edge_runtime.camera import Source, open_source
from edge_runtime.camera.privacy import Privacy
from edge_runtime.config import Config
from edge_runtime.daemon.label_exchange import LabelExchange
from edge_runtime.daemon.loading import Loading
from edge_runtime.daemon.notify import Notifier
from edge_runtime.daemon.parts import (
    Parts,
    build_beside,
    close_sinks,
    deleted_files,
    run_kind,
)
from edge_runtime.daemon.signals import Signals
from edge_runtime.daemon.summary import Summary
from edge_runtime.daemon.thermal import ThermalGovernor, frame_interval_s
from edge_runtime.daemon.threads import ThreadDeaths
from edge_runtime.engine import Engine, start_engine
from edge_runtime.errors import EdgeLabelError, StuckError, one_line
from edge_runtime.pipeline import Pipeline
from edge_runtime.records import Frame, LabelledFrame, LabelRecord
from edge_runtime.sinks import SinkContext, SinkRunner, check_labels, open_sinks, retire
from edge_runtime.sinks.console import live_line

log = logging.getLogger("edge_label")

# How late a wait for a frame may notice a signal or the deadline.
_POLL_S = 1.0
# The longest silence before a record says that no frame came. The watchdog waits for that record,
# so this must stay below WatchdogSec (30 s in systemd/edge-label.service).
_PATIENCE_S = 20.0
# How long the end waits for a reload that is still loading. SIGTERM to exit stays under 5 s.
_LOADING_S = 1.0


@dataclass(slots=True)
class Limits:
    """When to stop: after so many labelled frames, after so many seconds, or never."""

    frames: int | None = None
    seconds: float | None = None


def run(
    config: Config,
    limits: Limits,
    read_again: Callable[[], Config],
    signals: Signals | None = None,
) -> None:
    """Label until the source ends, a limit is reached, or SIGTERM or SIGINT arrives.

    All sinks are flushed at the end. ``read_again`` reads the configuration anew for SIGHUP.
    ``signals`` are handlers that stand already and may have caught a signal. Raises EdgeLabelError
    for what stops a start.
    """
    signals = signals or Signals()
    deaths = ThreadDeaths()
    notifier = Notifier()
    try:
        daemon = Daemon(config)
    except EdgeLabelError:
        # SIGTERM to the whole service also ends a child that the start waited for.
        if signals.stop:
            return
        raise

    try:
        notifier.ready("loaded, opening the camera")
        daemon.loop(limits, signals, notifier, read_again, deaths)
    finally:
        notifier.stopping("writing what is queued")
        daemon.close()
        deaths.close()

    # Once more: the last records were written by close().
    daemon.check_sinks()


class Daemon:
    """``parts`` label frames and write records; a reload exchanges them between two frames."""

    def __init__(self, config: Config) -> None:
        engine = start_engine(config.model)
        source = open_source(config.camera)
        privacy = Privacy.of(config.privacy)
        self.pipeline = Pipeline(
            engine,
            camera=source.name,
            thermal=Path(config.thermal.zones),
            privacy=privacy,
            consensus=config.consensus,
        )
        self.summary = Summary()
        self._governor = ThermalGovernor(config.thermal.limit_c)
        self._exchange = LabelExchange()

        # What sinks lost and deleted that a reload has closed.
        self._lost_before = 0
        self._deleted_before = 0

        self._loading: Loading | None = None

        # What a reload replaced, until the first frame of the new source is labelled.
        self._fallback: Config | None = None

        # Sinks ask about the other parts as soon as they run, so those come first.
        self.parts = Parts(config, engine, source, privacy, [])
        self.parts.sinks = self._open_sinks(config, engine, source)

    def _open_sinks(self, config: Config, engine: Engine, source: Source) -> list[SinkRunner]:
        live, finite = run_kind(source, config.camera)
        context = SinkContext(
            labels=engine.score.labels,
            engine=lambda: self.pipeline.engine,
            camera_state=lambda: self.parts.source.state,
            use_labels=self._exchange.offer,
            live=live,
            finite=finite,
        )
        return open_sinks(config, context)

    def loop(
        self,
        limits: Limits,
        signals: Signals,
        notifier: Notifier,
        read_again: Callable[[], Config],
        deaths: ThreadDeaths,
    ) -> None:
        """Frame by frame until the end. A reload happens between frames, never in an inference."""
        deadline = time.monotonic() + limits.seconds if limits.seconds else float("inf")

        while not signals.stop and time.monotonic() < deadline:
            deaths.check()
            self._reload_if_asked(signals, read_again, notifier)
            self._exchange.take(self.parts.engine, self._use)

            start = time.monotonic()
            try:
                frame = self._next_frame(signals, deadline)
                if frame is None and self._is_over(signals, deadline):
                    return
                frame_s = time.monotonic()
                record = self._label(frame, frame_s - start)
            except Exception as error:
                self._take_back(error, notifier)
                continue

            if record is None:
                notifier.alive("a picture is skipped")
                continue
            self.check_sinks()
            notifier.alive(self._status(record))
            if limits.frames and self.summary.records >= limits.frames:
                return
            if frame is not None:
                self._pause(record, frame_s, signals, deadline)

    def _next_frame(self, signals: Signals, deadline: float) -> Frame | None:
        """The next frame; None after a long silence, or soon after a signal or the deadline."""
        source = self.parts.source
        until = min(deadline, time.monotonic() + min(source.patience_s, _PATIENCE_S))

        while True:
            left_s = until - time.monotonic()
            frame = source.read(max(0.0, min(left_s, _POLL_S)))
            if frame is not None or source.ended or signals.stop or left_s <= _POLL_S:
                return frame

    def _is_over(self, signals: Signals, deadline: float) -> bool:
        """Whether there is no frame because the run ends, and not because the camera is silent."""
        return self.parts.source.ended or signals.stop or time.monotonic() >= deadline

    def _label(self, frame: Frame | None, waited_s: float) -> LabelRecord | None:
        """The record of a frame, or of the reason why there is none, handed to every sink.

        None for a picture of a folder that is not of the modality that the model takes.
        """
        self._count_losses()
        if frame is None:
            labelled = self.pipeline.explain(self.parts.source.state, waited_s)
            return self._hand_on(labelled)

        try:
            labelled = self.pipeline.process(frame)
        except EdgeLabelError as error:
            self.parts.source.refused(frame, error)
            return None

        self.summary.add(labelled.record)
        record = self._hand_on(labelled)
        # A source that gives a frame which can be labelled has proved itself.
        self._fallback = None
        return record

    def _hand_on(self, labelled: LabelledFrame) -> LabelRecord:
        for sink in self.parts.sinks:
            sink.put(labelled)
        return labelled.record

    def _count_losses(self) -> None:
        """What the sinks lost and deleted since start, for the next record."""
        sinks = self.parts.sinks
        counters = self.pipeline.counters
        counters.lost = self._lost_before + sum(sink.lost for sink in sinks)
        counters.deleted = self._deleted_before + deleted_files(sinks)

    def check_sinks(self) -> None:
        """Raise the error that makes going on pointless: a finite run that cannot store records."""
        for sink in self.parts.sinks:
            if sink.failure is not None:
                raise sink.failure

    def _pause(
        self, record: LabelRecord, frame_s: float, signals: Signals, deadline: float
    ) -> None:
        """Wait until the next frame of a live camera is due; log when a hot CPU changes that.

        ``frame_s`` is the monotonic time at which the last frame was taken.
        """
        if not self.parts.source.live:
            return

        slowed = self._governor(record.temp_c, time.monotonic())
        if slowed != self.pipeline.counters.slowed:
            self.pipeline.counters.slowed = slowed
            log.warning("CPU at %s °C: labelling one of %d frames", record.temp_c, slowed)

        interval_s = frame_interval_s(self.parts.config.camera, slowed)
        signals.sleep_until(min(deadline, frame_s + interval_s))

    def _status(self, record: LabelRecord) -> str:
        """One line for ``systemctl status``."""
        state = self.parts.source.state
        return live_line(record) if state == "ok" else f"camera {state.replace('_', ' ')}"

    def _reload_if_asked(
        self, signals: Signals, read_again: Callable[[], Config], notifier: Notifier
    ) -> None:
        """Take the new configuration if all of it can be built, else log why and keep the old.

        The model is loaded beside the loop, over as many frames as that takes.
        """
        try:
            if self._loading is None and signals.reload:
                # Before the file is read: a signal that comes meanwhile asks for another reload.
                signals.reload = False
                notifier.reloading()
                self._loading = Loading(read_again(), self.parts.engine)
            if self._loading is None or not self._loading.done:
                return
            parts = self._build(self._loading.config, self._loading.engine())
        except Exception as error:  # a file may hold anything, and labelling must go on
            self._loading = None
            why = one_line(error)
            log.warning("reload refused, the old configuration stays: %s", why)
            log.debug("traceback of that error", exc_info=True)
            notifier.ready(f"reload refused: {why}")
            return

        self._loading = None
        # A second reload before the first frame still goes back to what last worked.
        self._fallback = self._fallback or self.parts.config
        self._switch_to(parts)
        log.info("reloaded")
        notifier.ready("reloaded")

    def _use(self, engine: Engine) -> None:
        """Go on with an engine that differs in its labels. Raises ConfigError for a trigger's."""
        check_labels(self.parts.config, engine.score.labels)
        self.parts.engine = engine
        self._switch_pipeline()

    def _build(self, config: Config, engine: Engine) -> Parts:
        return build_beside(self.parts, config, engine, self._open_sinks)

    def _take_back(self, error: Exception, notifier: Notifier) -> None:
        """Return to the old configuration: a source can open and then give nothing to label.

        Raises ``error`` itself where no reload is to blame, or where the old configuration cannot
        be built any more.
        """
        fallback = self._fallback
        if fallback is None or isinstance(error, StuckError):
            raise error
        try:
            parts = self._build(fallback, start_engine(fallback.model, self.parts.engine))
        except Exception:
            # Why the old configuration fails now is not why the frame failed.
            log.debug("the old configuration cannot be built again", exc_info=True)
            raise error from None

        self._fallback = None
        self._switch_to(parts)
        why = one_line(error)
        log.warning("reload taken back, the old configuration is in use again: %s", why)
        notifier.ready(f"reload taken back: {why}")

    def _switch_to(self, parts: Parts) -> None:
        """Close what is replaced, and go on with the new parts."""
        old = self.parts
        if parts.source is not old.source:
            # Before the new source is read: both may name the same device, and a source opens its
            # device at the first read.
            old.source.close()
        if parts.sinks is not old.sinks:
            retire(old.sinks, parts.config)
            self._lost_before += close_sinks(old.sinks)
            self._deleted_before += deleted_files(old.sinks)

        self.parts = parts
        self._switch_pipeline()
        self._governor = ThermalGovernor(parts.config.thermal.limit_c)

    def _switch_pipeline(self) -> None:
        parts = self.parts
        config = parts.config
        zones = Path(config.thermal.zones)
        self.pipeline.switch(
            parts.engine, parts.source.name, zones, parts.privacy, config.consensus
        )

    def close(self) -> None:
        """Stop the camera, flush every sink, log in one line what the run was."""
        if self._loading:
            self._loading.wait(_LOADING_S)
        self.parts.source.close()
        lost = self._lost_before + close_sinks(self.parts.sinks)
        if self.summary.records:
            log.info("%s", self.summary.text(lost))
