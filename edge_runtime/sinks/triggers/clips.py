"""A clip while it is being written: an AVI file in a draft of the spool."""

from __future__ import annotations

from typing import Any

from edge_runtime.config import TriggerRule
from edge_runtime.records import LabelRecord
from edge_runtime.sinks.triggers import avi
from edge_runtime.sinks.triggers.avi import AviWriter
from edge_runtime.sinks.triggers.draft import Draft


class Clip:
    """One open clip. Every method that raises OSError has abandoned the draft before.

    Attributes:
        rule: The rule that fired.
        record: The record it fired for.
        end_s: When the last frame of the clip is taken, in monotonic seconds.
        draft: The unfinished capture that the clip is written to.
        frames: The number of frames written so far.
    """

    def __init__(
        self, rule: TriggerRule, record: LabelRecord, fired_s: float, draft: Draft
    ) -> None:
        self.rule = rule
        self.record = record
        self.end_s = fired_s + rule.post_s
        self.draft = draft
        self._fired_s = fired_s
        self._frames_before = 0  # those from the ring, before the frame that fired
        try:
            self._avi = AviWriter(draft.stream)
        except OSError:
            draft.abandon()
            raise

    @property
    def frames(self) -> int:
        return self._avi.frames

    def append(self, jpeg: bytes, time_s: float) -> None:
        """Add a frame of monotonic ``time_s``.

        A frame that has no room, under the cap of the spool or in an AVI file, is left out: a clip
        that is too long by itself ends early, and the cap holds while clips are unfinished too.
        """
        size = self._avi.size_with(jpeg)
        if size > avi.MAX_BYTES or not self.draft.reserve(size - self.draft.reserved):
            return
        try:
            self._avi.add(jpeg, time_s)
        except OSError:
            self.draft.abandon()
            raise
        if time_s < self._fired_s:
            self._frames_before = self._avi.frames

    def finish(self) -> dict[str, Any]:
        """Complete the AVI file, and return what the sidecar says about it."""
        try:
            self._avi.finish()
        except OSError:
            self.draft.abandon()
            raise
        return {
            "frames": self._avi.frames,
            "fps": round(self._avi.fps, 3),
            "frame_times_s": self._avi.offsets_s,
            "fired_frame": self._frames_before,
        }
