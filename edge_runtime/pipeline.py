"""Frame -> LabelRecord. The one place where the steps stand in order."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import numpy as np

from edge_runtime.camera.decode import decode, eight_bits
from edge_runtime.camera.privacy import Privacy
from edge_runtime.config import ConsensusConfig, ModelConfig
from edge_runtime.consensus import Consensus
from edge_runtime.errors import DataError
from edge_runtime.model.bundle import Bundle
from edge_runtime.model.encoder import Encoder
from edge_runtime.model.labels import CompiledLabels, Scorer, Settle
from edge_runtime.model.modality import check_trained, is_grey_photograph, resolve
from edge_runtime.model.preprocess import Preprocessor, is_flat
from edge_runtime.records import (
    CameraState,
    Frame,
    LabelEvent,
    LabelRecord,
    LabelScore,
    Modality,
    RecordState,
    StageTimes,
    utc_iso,
)
from edge_runtime.telemetry import THERMAL_ZONES, Counters, FpsMeter, VitalsSampler, boot_id

_NOTHING = np.zeros((1, 1), np.uint8)


class Engine:
    """One bundle and one label set, loaded. A reload makes a new one beside the old, then switches."""

    def __init__(self, bundle: Bundle, labels: CompiledLabels, config: ModelConfig, old: Engine | None = None) -> None:
        """``old`` lends its encoder where bundle and threads are the same: new labels then cost no second model.

        Raises ConfigError when the bundle was not trained for the configured modality.
        """
        check_trained(config.modality, bundle.manifest)
        self.manifest = bundle.manifest
        self.config = config
        if old is None or (old.manifest, old.config.threads) != (bundle.manifest, config.threads):
            self.preprocess, self.encode = Preprocessor(bundle.manifest.input), Encoder(bundle, config.threads)
        else:
            self.preprocess, self.encode = old.preprocess, old.encode
        self.score = Scorer(labels, config.top_k)


class Pipeline:
    """decode -> preprocess -> encode -> score, timed. Not thread-safe: one pipeline, one thread."""

    def __init__(
        self,
        engine: Engine,
        *,
        camera: str,
        thermal: Path = THERMAL_ZONES,
        privacy: Privacy | None = None,
        consensus: ConsensusConfig | None = None,
    ) -> None:
        self._scored: tuple[str, ConsensusConfig | None] | None = None
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
        """Go on with other parts; the numbering of records goes on too. ``thermal`` holds the thermal zones.

        ``consensus`` None: every frame speaks for itself. Votes start anew only where labels or consensus changed.
        """
        labels = engine.score.labels
        if self._scored != (labels.id, consensus):
            config = consensus or ConsensusConfig(method="off")
            self._consensus = Consensus(config, labels.names, [group for _, group in labels.groups])
        self._scored = labels.id, consensus
        self.engine = engine
        self._camera = camera
        self._privacy = privacy
        self._vitals = VitalsSampler(thermal=thermal)

    @property
    def threads(self) -> int:
        """Threads the encoder runs on."""
        return self.engine.encode.threads

    def process(self, frame: Frame) -> LabelRecord:
        """Label one frame. A frame that cannot be decoded or scored gives a record of state ``invalid``.

        With privacy configured the frame holds afterwards only what may be seen. Raises ConfigError for a frame that
        is not of the configured modality, or of none the bundle was trained for.
        """
        engine = self.engine
        clock = time.monotonic
        start = clock()
        decoded = prepared = checked = encoded = start
        labels: tuple[LabelScore, ...] | None = None
        flat = False
        wanted = engine.config.modality
        modality: Modality = "rgb" if wanted == "auto" else wanted
        try:
            if self._privacy is not None:
                self._privacy(frame)
            pixels = decode(frame, engine.manifest.input.size)
        except DataError:
            self.counters.corrupt += 1
            decoded = prepared = checked = encoded = clock()
        else:
            if frame.file is not None and is_grey_photograph(wanted, pixels, engine.manifest):
                pixels = eight_bits(pixels)
            decoded = clock()
            modality = resolve(wanted, pixels, engine.manifest)
            batch = engine.preprocess(pixels, modality)
            prepared = clock()
            flat = is_flat(batch[0] if engine.manifest.input.layout == "NHWC" else batch[0, 1])
            checked = clock()
            embedding = frame.embedding = engine.encode(batch)
            encoded = clock()
            labels = engine.score(embedding, self._settle(frame, flat))
        end = clock()
        times = StageTimes(
            wait=_ms(frame.wait_ms),
            decode=_ms(frame.decode_ms + (decoded - start) * 1e3),
            preprocess=_ms((prepared - decoded) * 1e3),
            encode=_ms((encoded - checked) * 1e3),
            score=_ms((end - encoded) * 1e3),
            total=_ms(frame.decode_ms + frame.check_ms + (end - start) * 1e3),
            check=round(frame.check_ms + (checked - prepared) * 1e3, 3),
        )
        state = _state(frame, labels, flat)
        if state != "ok":
            labels = tuple(replace(label, on=False) if label.on else label for label in labels or ())
        events = self._consensus.events if labels is not None and frame.file is None else ()
        return self._record(frame, modality, state, labels or (), times, events=events)

    def _settle(self, frame: Frame, flat: bool) -> Settle | None:
        """Consensus over a camera or a video. Single pictures have nothing to do with each other."""
        if frame.file is not None:
            return None
        now = frame.captured_s if frame.video_s is None else frame.video_s
        blind = flat or frame.frozen
        return lambda on: self._consensus(np.zeros_like(on) if blind else on, now)

    def explain(self, camera_state: CameraState, waited_s: float) -> LabelRecord:
        """The record of a second in which no frame came: state ``stale``, and what the camera is doing instead."""
        frame = Frame(_NOTHING, "grey", time.monotonic(), time.time(), dropped=self._dropped)
        times = StageTimes(wait=_ms(waited_s * 1e3), decode=0, preprocess=0, encode=0, score=0, total=0)
        wanted = self.engine.config.modality
        modality: Modality = "rgb" if wanted == "auto" else wanted
        return self._record(frame, modality, "stale", (), times, camera_state)

    def _record(
        self,
        frame: Frame,
        modality: Modality,
        state: RecordState,
        labels: tuple[LabelScore, ...],
        times: StageTimes,
        camera_state: CameraState | None = None,
        events: tuple[LabelEvent, ...] = (),
    ) -> LabelRecord:
        vitals = self._vitals()
        counters = self.counters
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
            camera_state="frozen" if frame.frozen else camera_state,
            corrupt=counters.corrupt or None,
            lost=counters.lost or None,
            deleted=counters.deleted or None,
            slowed=counters.slowed if counters.slowed > 1 else None,
            clock_unsynced=vitals.clock_unsynced or None,
        )
        self._seq += 1
        return record


def _state(frame: Frame, labels: tuple[LabelScore, ...] | None, flat: bool) -> RecordState:
    """Why this frame may have no label on, the gravest reason first."""
    if labels is None:
        return "invalid"
    if frame.frozen:
        return "frozen"
    if flat:
        return "low_information"
    return "ok" if any(label.on for label in labels) else "unknown"


def _ms(value: float) -> float:
    return round(value, 2)
