"""Frame -> LabelRecord. The one place where the steps stand in order."""

from __future__ import annotations

import time

from edge_runtime.camera.decode import decode
from edge_runtime.config import ModelConfig
from edge_runtime.errors import DataError
from edge_runtime.model.bundle import Bundle
from edge_runtime.model.encoder import Encoder
from edge_runtime.model.labels import CompiledLabels, Scorer
from edge_runtime.model.modality import check_trained, resolve
from edge_runtime.model.preprocess import Preprocessor
from edge_runtime.records import Frame, LabelRecord, LabelScore, Modality, RecordState, StageTimes, utc_iso
from edge_runtime.telemetry import FpsMeter, VitalsSampler, boot_id


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
        self.score = Scorer(labels, bundle.manifest.logit_scale, config.top_k)


class Pipeline:
    """decode -> preprocess -> encode -> score, timed. Not thread-safe: one pipeline, one thread."""

    def __init__(self, engine: Engine, *, camera: str) -> None:
        self.switch(engine, camera)
        self._boot_id = boot_id()
        self._fps = FpsMeter()
        self._vitals = VitalsSampler()
        self._seq = 0

    def switch(self, engine: Engine, camera: str) -> None:
        """Go on with another engine and camera; the numbering of records goes on too."""
        self.engine = engine
        self._camera = camera

    @property
    def threads(self) -> int:
        """Threads the encoder runs on."""
        return self.engine.encode.threads

    def process(self, frame: Frame) -> LabelRecord:
        """Label one frame. A frame that cannot be decoded or scored gives a record of state ``invalid``.

        Raises ConfigError for a frame that is not of the configured modality, or of none the bundle was trained for.
        """
        engine = self.engine
        clock = time.monotonic
        start = clock()
        decoded = prepared = encoded = start
        labels: tuple[LabelScore, ...] | None = None
        wanted = engine.config.modality
        modality: Modality = "rgb" if wanted == "auto" else wanted
        try:
            pixels = decode(frame, engine.manifest.input.size)
        except DataError:
            decoded = prepared = encoded = clock()
        else:
            decoded = clock()
            modality = resolve(wanted, pixels, engine.manifest)
            batch = engine.preprocess(pixels, modality)
            prepared = clock()
            embedding = frame.embedding = engine.encode(batch)
            encoded = clock()
            labels = engine.score(embedding)
        end = clock()
        decode_ms = frame.decode_ms + (decoded - start) * 1e3
        times = StageTimes(
            wait=round(frame.wait_ms, 2),
            decode=round(decode_ms, 2),
            preprocess=round((prepared - decoded) * 1e3, 2),
            encode=round((encoded - prepared) * 1e3, 2),
            score=round((end - encoded) * 1e3, 2),
            total=round(frame.decode_ms + (end - start) * 1e3, 2),
        )
        return self._record(frame, modality, labels, times, end)

    def _record(
        self, frame: Frame, modality: Modality, labels: tuple[LabelScore, ...] | None, times: StageTimes, now: float
    ) -> LabelRecord:
        state: RecordState = "invalid"
        if labels is not None:
            state = "ok" if any(label.on for label in labels) else "unknown"
        vitals = self._vitals()
        record = LabelRecord(
            seq=self._seq,
            time=utc_iso(frame.captured_at),
            mono_s=round(frame.captured_s, 3),
            boot_id=self._boot_id,
            camera=self._camera,
            modality=modality,
            state=state,
            labels=labels or (),
            ms=times,
            fps=round(self._fps.tick(now), 1),
            dropped=frame.dropped,
            rss_mb=round(vitals.rss_mb, 1),
            pss_mb=None if vitals.pss_mb is None else round(vitals.pss_mb, 1),
            temp_c=vitals.temp_c,
            throttled=vitals.throttled,
            bundle=self.engine.manifest.id,
            labels_id=self.engine.score.labels.id,
            file=frame.file,
        )
        self._seq += 1
        return record
