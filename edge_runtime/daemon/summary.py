"""What a run was, in the last line of its log."""

from __future__ import annotations

import time
from collections import Counter

from edge_runtime.records import LabelRecord
from edge_runtime.system.memory import peak_rss_mb

_TOP_LABELS = 5


class Summary:
    """Adds up the records of a run. Holds counts only, so a year of running stays small."""

    def __init__(self) -> None:
        self.records = 0
        self._start = time.monotonic()
        self._encode_ms = 0.0
        self._dropped = 0
        self._on: Counter[str] = Counter()

    def add(self, record: LabelRecord) -> None:
        """Count one labelled frame."""
        self.records += 1
        self._encode_ms += record.ms.encode
        self._dropped = record.dropped
        self._on.update(label.name for label in record.labels if label.on)

    def text(self, lost: int) -> str:
        """How much, how fast, how big, and the labels that were on most. Needs one record."""
        elapsed_s = time.monotonic() - self._start
        shares = [
            f"{name} {100 * frames / self.records:.0f} %"
            for name, frames in self._on.most_common(_TOP_LABELS)
        ]
        return (
            f"{self.records} frames in {elapsed_s:.1f} s: {self.records / elapsed_s:.1f} FPS, "
            f"encode {self._encode_ms / self.records:.1f} ms mean, {self._dropped} dropped, "
            f"{lost} records lost, peak RSS {peak_rss_mb():.0f} MB; "
            f"labels on: {', '.join(shares) or 'none'}"
        )
