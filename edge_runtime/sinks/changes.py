"""Which labels went on or off from one record to the next."""

from __future__ import annotations

from edge_runtime.records import LabelRecord, LabelScore


class LabelChanges:
    """Callable: a record -> (labels that went on, names of those that went off) since the record before."""

    def __init__(self) -> None:
        self._on: frozenset[str] = frozenset()

    def __call__(self, record: LabelRecord) -> tuple[list[LabelScore], list[str]]:
        shining = [label for label in record.labels if label.on]
        if not shining and not self._on:  # most frames of most cameras
            return [], []
        now = frozenset(label.name for label in shining)
        before, self._on = self._on, now
        return [label for label in shining if label.name not in before], sorted(before - now)
