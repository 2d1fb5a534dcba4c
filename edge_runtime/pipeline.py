"""Frame -> LabelRecord. The one place where the steps stand in order."""

from __future__ import annotations

import time

from edge_runtime.camera.decode import decode
from edge_runtime.errors import DataError
from edge_runtime.model.bundle import Bundle
from edge_runtime.model.encoder import Encoder
from edge_runtime.model.labels import CompiledLabels, Scorer
from edge_runtime.model.preprocess import Preprocessor
from edge_runtime.records import Frame, LabelRecord, LabelScore, RecordState, StageTimes, utc_iso
from edge_runtime.telemetry import FpsMeter, VitalsSampler, boot_id


class Pipeline:
    """decode -> preprocess -> encode -> score, timed. Not thread-safe: one pipeline, one thread."""

    def __init__(
        self,
        bundle: Bundle,
        labels: CompiledLabels,
        *,
        camera: str,
        threads: int | None = None,
        top_k: int = 10,
    ) -> None:
        manifest = bundle.manifest
        self._size = manifest.input.size
        self._preprocess = Preprocessor(manifest.input)
        self._encode = Encoder(bundle, threads)
        self._score = Scorer(labels, manifest.logit_scale, top_k)
        self._camera = camera
        self._bundle_id = manifest.id
        self._boot_id = boot_id()
        self._fps = FpsMeter()
        self._vitals = VitalsSampler()
        self._seq = 0

    @property
    def threads(self) -> int:
        """Threads the encoder runs on."""
        return self._encode.threads

    def process(self, frame: Frame) -> LabelRecord:
        """Label one frame. A frame that cannot be decoded or scored gives a record of state ``invalid``."""
        clock = time.monotonic
        start = clock()
        decoded = prepared = encoded = start
        labels: tuple[LabelScore, ...] | None = None
        try:
            pixels = decode(frame, self._size)
        except DataError:
            decoded = prepared = encoded = clock()
        else:
            decoded = clock()
            batch = self._preprocess(pixels)
            prepared = clock()
            embedding = self._encode(batch)
            encoded = clock()
            labels = self._score(embedding)
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
        return self._record(frame, labels, times, end)

    def _record(
        self, frame: Frame, labels: tuple[LabelScore, ...] | None, times: StageTimes, now: float
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
            modality="rgb",
            state=state,
            labels=labels or (),
            ms=times,
            fps=round(self._fps.tick(now), 1),
            dropped=frame.dropped,
            rss_mb=round(vitals.rss_mb, 1),
            pss_mb=None if vitals.pss_mb is None else round(vitals.pss_mb, 1),
            temp_c=vitals.temp_c,
            throttled=vitals.throttled,
            bundle=self._bundle_id,
            labels_id=self._score.labels.id,
            file=frame.file,
        )
        self._seq += 1
        return record
