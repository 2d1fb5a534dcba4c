"""From a frame to its record: the one place where the steps stand in order.

What must not live here: how a step works (`camera`, `model`, `consensus`), and where a record goes
(`sinks`).
"""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import numpy as np

from edge_runtime.camera.decode import decode, eight_bits
from edge_runtime.camera.privacy import Privacy
from edge_runtime.config import ConsensusConfig
from edge_runtime.consensus import Consensus, Votes
from edge_runtime.engine import Engine
from edge_runtime.errors import DataError
from edge_runtime.model.labels.scorer import Scores
from edge_runtime.model.modality import is_grey_photograph, resolve
from edge_runtime.model.preprocess import LOW_SPREAD, contrast_of
from edge_runtime.records import (
    CameraState,
    Frame,
    LabelEvent,
    LabelledFrame,
    LabelRecord,
    LabelScore,
    Modality,
    RecordState,
    StageTimes,
    utc_iso,
)
from edge_runtime.system.telemetry import THERMAL_ZONES, Counters, FpsMeter, VitalsSampler, boot_id

# Stands for a picture that does not exist, or that nobody may see.
_NO_PICTURE = np.zeros((1, 1), np.uint8)


class Pipeline:
    """Labels frames, and times every step. Not thread-safe: one pipeline, one thread."""

    def __init__(
        self,
        engine: Engine,
        *,
        camera: str,
        thermal: Path = THERMAL_ZONES,
        privacy: Privacy | None = None,
        consensus: ConsensusConfig | None = None,
    ) -> None:
        """See `switch` for the arguments."""
        self._votes_on: tuple[str, ConsensusConfig | None] | None = None
        self.switch(engine, camera, thermal, privacy, consensus)
        self.counters = Counters()
        self._boot_id = boot_id()
        self._fps = FpsMeter()
        self._seq = 0
        self._dropped = 0

    def switch(
        self,
        engine: Engine,
        camera: str,
        thermal: Path,
        privacy: Privacy | None,
        consensus: ConsensusConfig | None,
    ) -> None:
        """Continue with other parts, and with the same numbering of records.

        Args:
            engine: Model and labels.
            camera: The camera's name in the records.
            thermal: Directory of the thermal zones.
            privacy: What to hide of a frame; None hides nothing.
            consensus: How labels are smoothed over time; None judges every frame alone. The votes
                so far are kept where neither labels nor consensus changed.
        """
        labels = engine.score.labels
        if self._votes_on != (labels.id, consensus):
            config = consensus or ConsensusConfig(method="off")
            self._consensus = Consensus(config, labels.names, [group for _, group in labels.groups])
        self._votes_on = (labels.id, consensus)

        self.engine = engine
        self._camera = camera
        self._privacy = privacy
        self._vitals = VitalsSampler(thermal)

    @property
    def threads(self) -> int:
        """How many threads the encoder uses."""
        return self.engine.encode.threads

    def process(self, frame: Frame) -> LabelledFrame:
        """Label one frame. One that cannot be decoded or scored gives a record ``invalid``.

        Raises ConfigError for a frame that is not of the configured modality, or of no modality
        that the bundle was trained for.
        """
        engine = self.engine
        watch = Stopwatch(frame)

        try:
            seen = frame if self._privacy is None else self._privacy(frame)
            pixels = decode(seen, engine.manifest.input.size)
        except DataError:
            return self._undecodable(frame, watch)
        # A camera's 16 bits are infrared or depth; a 16-bit grey picture file may be a photograph.
        if frame.file is not None and is_grey_photograph(
            engine.config.modality, pixels, engine.manifest
        ):
            pixels = eight_bits(pixels)
        watch.lap("decode")

        modality = resolve(engine.config.modality, pixels, engine.manifest)
        batch = engine.preprocess(pixels, modality)
        watch.lap("preprocess")

        nhwc = engine.manifest.input.layout == "NHWC"
        contrast = contrast_of(batch[0] if nhwc else batch[0, 1])
        watch.lap("check")

        embedding = engine.encode(batch)
        watch.lap("encode")

        scores = engine.score(embedding)
        strange = engine.is_strange(embedding, contrast, modality)
        flat = contrast < LOW_SPREAD
        state, labels, events = self._judge(seen, scores, flat=flat, strange=strange)
        times = watch.times()

        record = self._record(
            seen, modality, state, labels, times, events=events, strange_view=strange or None
        )
        return LabelledFrame(record, seen, embedding)

    def _undecodable(self, frame: Frame, watch: Stopwatch) -> LabelledFrame:
        """The record of a broken frame.

        With privacy configured its bytes are blanked: they may show what must stay hidden.
        """
        self.counters.corrupt += 1
        watch.lap("decode")

        seen = frame if self._privacy is None else replace(frame, data=_NO_PICTURE, encoding="grey")
        record = self._record(seen, self._configured_modality, "invalid", (), watch.times())
        return LabelledFrame(record, seen, None)

    def _judge(
        self, frame: Frame, scores: Scores | None, *, flat: bool, strange: bool
    ) -> tuple[RecordState, tuple[LabelScore, ...], tuple[LabelEvent, ...]]:
        """The state of a frame, its labels, and the labels that went on or off with it."""
        if scores is None:
            return "invalid", (), ()

        votes = scores.votes
        if strange:
            votes = votes & self.engine.score.labels.in_any_view
        on, events = self._smooth(frame, votes, blind=flat or frame.frozen)
        labels = self.engine.score.ranked(scores, on)

        # The most serious state first. Every state keeps its scores, so that a threshold can be
        # judged afterwards.
        if frame.frozen:
            return "frozen", _switched_off(labels), events
        if flat:
            return "low_information", _switched_off(labels), events
        return ("ok" if any(label.on for label in labels) else "unknown"), labels, events

    def _smooth(
        self, frame: Frame, votes: Votes, *, blind: bool
    ) -> tuple[Votes, tuple[LabelEvent, ...]]:
        """The votes after consensus over time. Each picture of a folder stands alone.

        A ``blind`` frame votes for nothing.
        """
        if frame.file is not None:
            return votes, ()

        now_s = frame.captured_s if frame.video_s is None else frame.video_s
        return self._consensus(np.zeros_like(votes) if blind else votes, now_s)

    @property
    def _configured_modality(self) -> Modality:
        """The modality in the record of a frame that could not be looked at."""
        configured = self.engine.config.modality
        return "rgb" if configured == "auto" else configured

    def explain(self, camera_state: CameraState, waited_s: float) -> LabelledFrame:
        """A record of state ``stale``, where no frame came: it says what the camera is doing.

        ``waited_s`` is how long we waited for a frame, in seconds.
        """
        frame = Frame(_NO_PICTURE, "grey", time.monotonic(), time.time(), dropped=self._dropped)
        times = StageTimes(
            wait=_ms(waited_s * 1e3), decode=0, preprocess=0, encode=0, score=0, total=0
        )
        record = self._record(frame, self._configured_modality, "stale", (), times, camera_state)
        return LabelledFrame(record, None, None)

    def _record(
        self,
        frame: Frame,
        modality: Modality,
        state: RecordState,
        labels: tuple[LabelScore, ...],
        times: StageTimes,
        camera_state: CameraState | None = None,
        events: tuple[LabelEvent, ...] = (),
        strange_view: bool | None = None,
    ) -> LabelRecord:
        vitals = self._vitals()
        counters = self.counters
        # Kept for `explain`, which has no frame that could tell.
        self._dropped = frame.dropped

        record = LabelRecord(
            seq=self._seq,
            time=utc_iso(frame.captured_at),
            mono_s=round(frame.captured_s, 3),
            boot_id=self._boot_id,
            camera=self._camera,
            modality=modality,
            state=state,
            labels=labels,
            ms=times,
            fps=round(self._fps.tick(time.monotonic()), 1) if state != "stale" else 0.0,
            dropped=frame.dropped,
            rss_mb=round(vitals.rss_mb, 1),
            pss_mb=None if vitals.pss_mb is None else round(vitals.pss_mb, 1),
            temp_c=vitals.temp_c,
            throttled=vitals.throttled,
            bundle=self.engine.manifest.id,
            labels_id=self.engine.score.labels.id,
            file=frame.file,
            events=events or None,
            strange_view=strange_view,
            camera_state="frozen" if frame.frozen else camera_state,
            corrupt=counters.corrupt or None,
            lost=counters.lost or None,
            deleted=counters.deleted or None,
            slowed=counters.slowed if counters.slowed > 1 else None,
            clock_unsynced=vitals.clock_unsynced or None,
        )

        self._seq += 1
        return record


class Stopwatch:
    """Times the stages of one frame in milliseconds, and adds the times that its source took."""

    def __init__(self, frame: Frame) -> None:
        self._frame = frame
        self._ms = dict.fromkeys(("decode", "preprocess", "check", "encode"), 0.0)
        self._start = time.monotonic()
        self._last = self._start

    def lap(self, stage: str) -> None:
        """End of a stage: all time since the end of the one before belongs to it."""
        now = time.monotonic()
        self._ms[stage] = (now - self._last) * 1e3
        self._last = now

    def times(self) -> StageTimes:
        """All stages. The time since the last lap is scoring, and it is in ``total``."""
        frame = self._frame
        end = time.monotonic()
        here_ms = (end - self._start) * 1e3

        return StageTimes(
            wait=_ms(frame.wait_ms),
            decode=_ms(frame.decode_ms + self._ms["decode"]),
            preprocess=_ms(self._ms["preprocess"]),
            encode=_ms(self._ms["encode"]),
            score=_ms((end - self._last) * 1e3),
            total=_ms(frame.decode_ms + frame.check_ms + here_ms),
            check=round(frame.check_ms + self._ms["check"], 3),
        )


def _switched_off(labels: tuple[LabelScore, ...]) -> tuple[LabelScore, ...]:
    return tuple(replace(label, on=False) if label.on else label for label in labels)


def _ms(value: float) -> float:
    return round(value, 2)
