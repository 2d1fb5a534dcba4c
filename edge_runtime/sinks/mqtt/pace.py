"""Which records the MQTT sink gets. This half runs in the pipeline's thread."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from edge_runtime.records import Frame, LabelledFrame, LabelRecord

MIN_INTERVAL_S = 0.25  # between two records where something changed
LOOK_S = 1.0  # between two records where nothing did: the sink looks after its connection then


def record_key(record: LabelRecord) -> tuple[str, ...]:
    """What must change for a record to be published before its time."""
    on = sorted(label.name for label in record.labels if label.on)
    return (record.labels_id, record.state, *on)


Item = tuple[LabelRecord, tuple[str, ...], Frame | None]


class Pace:
    """A `Chooser`. Each item is a record, the names of the labels in use, and perhaps its frame.

    A frame comes at most every ``picture_s`` seconds; None: never.
    """

    def __init__(
        self, label_names: Callable[[], Sequence[str]], picture_s: float | None = None
    ) -> None:
        self._label_names = label_names
        self._picture_s = picture_s
        self._next_picture_s = float("-inf")
        self._names: tuple[str, ...] = ()
        self._labels_id = ""
        self._key: tuple[str, ...] | None = None
        self._change_not_before_s = float("-inf")
        self._next_look_s = float("-inf")

    def choose(self, labelled: LabelledFrame) -> Item | None:
        """A change at most every `MIN_INTERVAL_S`; without changes a record every `LOOK_S`."""
        record = labelled.record
        now_s = time.monotonic()
        key = record_key(record)
        changed = key != self._key
        if now_s < (self._change_not_before_s if changed else self._next_look_s):
            return None

        if record.labels_id != self._labels_id:
            self._labels_id = record.labels_id
            self._names = tuple(self._label_names())
        if changed:
            self._change_not_before_s = now_s + MIN_INTERVAL_S
        self._next_look_s = now_s + LOOK_S
        self._key = key
        return record, self._names, self._picture(labelled, now_s)

    def _picture(self, labelled: LabelledFrame, now_s: float) -> Frame | None:
        """The frame, where it is time for one; a frozen or broken one is not the present."""
        is_present = labelled.record.state not in ("frozen", "invalid", "stale")
        if self._picture_s is None or now_s < self._next_picture_s or not is_present:
            return None
        self._next_picture_s = now_s + self._picture_s
        return labelled.frame

    def dropped(self, record: LabelRecord, names: tuple[str, ...], frame: Frame | None) -> None:
        """Take the next record for a change, because the sink did not hear of this one."""
        self._key = None
        if frame is not None:
            self._next_picture_s = float("-inf")
