"""Which labels went on or off from one record to the next."""

from __future__ import annotations

from edge_runtime.records import LabelRecord, LabelScore


class LabelChanges:
    """Callable: record -> (labels that went on, names of those that went off) since the last."""

    def __init__(self) -> None:
        self._on: frozenset[str] = frozenset()

    def __call__(self, record: LabelRecord) -> tuple[list[LabelScore], list[str]]:
        on = [label for label in record.labels if label.on]
        if not on and not self._on:  # most frames of most cameras
            return [], []

        before = self._on
        self._on = frozenset(label.name for label in on)
        went_on = [label for label in on if label.name not in before]
        went_off = sorted(before - self._on)
        return went_on, went_off
