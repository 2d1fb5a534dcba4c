"""Choosing the frames worth keeping: rules over labels, a ring of recent JPEGs, snapshots and clips in a spool.

A rule fires when its condition becomes true (``edge: rising``) or while it is true (``level``), at most every
``min_interval_s``, and, with ``min_distance``, only for a frame that looks different from those it kept before:
cosine distance 1 - a.b of the image embeddings.

``Rules`` decides in the pipeline's thread, ``TriggerSink`` keeps in its own; a ``Task`` in the queue is all that goes
from one to the other. Fired = kept + lost, always. A firing is lost when a full queue gives its frame up, when the
disk refuses, when the frame is broken or when the cap is too small for it. Only the first may happen again: the rule
gets its interval back, and fires anew while its condition still holds. Trying a full disk again with every frame would
help nobody.
"""

from __future__ import annotations

import difflib
import errno
import logging
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_runtime.config import Condition, TriggerRule, TriggersConfig
from edge_runtime.errors import ConfigError, DataError
from edge_runtime.records import Frame, LabelledFrame, LabelRecord, LabelScore
from edge_runtime.sinks.triggers import avi
from edge_runtime.sinks.triggers.avi import AviWriter
from edge_runtime.sinks.triggers.hook import WAITING, Hook
from edge_runtime.sinks.triggers.spool import Draft, Spool

log = logging.getLogger("edge_label.triggers")

SCHEMA = "edge-label-capture/1"
DIVERSITY_MEMORY = 512  # embeddings a rule remembers: 1 MB at 512 dimensions
AGAIN_S = 1.0  # after a lost firing; while a disk hangs, a rule fires no more often than this


def holds(condition: Condition, scores: Mapping[str, LabelScore], state: str) -> bool:
    """Whether a record answers the condition. A label that the record does not list has score 0."""
    if condition.label is not None:
        label = scores.get(condition.label)
        if condition.min_score is None and condition.max_score is None:
            return label is not None and label.on
        score = label.score if label else 0.0
        low, high = condition.min_score, condition.max_score
        return (low is None or score >= low) and (high is None or score <= high)
    if condition.state is not None:
        return condition.state == state
    if condition.all is not None:
        return all(holds(inner, scores, state) for inner in condition.all)
    if condition.any is not None:
        return any(holds(inner, scores, state) for inner in condition.any)
    return condition.not_ is None or not holds(condition.not_, scores, state)


class Diversity:
    """Remembers the embeddings that were kept, the newest ``DIVERSITY_MEMORY`` of them, oldest first."""

    def __init__(self, min_distance: float) -> None:
        self._limit = 1 - min_distance
        self._kept: NDArray[np.float32] | None = None
        self._count = 0

    def is_new(self, embedding: NDArray[Any]) -> bool:
        """True when every remembered embedding is at least ``min_distance`` away. NaN is never new."""
        if self._kept is None or not self._count:
            return bool(np.isfinite(embedding).all())
        near = self._kept[: self._count] @ embedding
        return bool(near.max() <= self._limit)

    def remember(self, embedding: NDArray[Any]) -> None:
        """Add one that is to be kept, in place of the oldest."""
        if self._kept is None:
            self._kept = np.empty((DIVERSITY_MEMORY, len(embedding)), np.float32)
        if self._count == DIVERSITY_MEMORY:
            self._remove(0)
        self._kept[self._count] = embedding
        self._count += 1

    def forget(self, embedding: NDArray[Any]) -> None:
        """One that was to be kept, and was not."""
        for row in range(self._count - 1, -1, -1):
            if self._kept is not None and np.array_equal(self._kept[row], embedding):
                self._remove(row)
                return

    def _remove(self, row: int) -> None:
        if self._kept is not None:
            self._kept[row : self._count - 1] = self._kept[row + 1 : self._count]
            self._count -= 1


class Ring:
    """The last seconds as (monotonic seconds, JPEG), under a cap of bytes; the oldest go first."""

    def __init__(self, seconds: float, max_bytes: float) -> None:
        self._seconds = seconds
        self._max_bytes = max_bytes
        self._items: deque[tuple[float, bytes]] = deque()
        self.bytes = 0

    def add(self, time_s: float, jpeg: bytes) -> None:
        self._items.append((time_s, jpeg))
        self.bytes += len(jpeg)
        while self._items and (
            self.bytes > self._max_bytes or self._items[0][0] < time_s - self._seconds
        ):
            self.bytes -= len(self._items.popleft()[1])

    def since(self, time_s: float) -> list[tuple[float, bytes]]:
        """What it holds from ``time_s`` on, oldest first."""
        return [item for item in self._items if item[0] >= time_s]


class Rule:
    """A TriggerRule and what it remembers."""

    def __init__(self, config: TriggerRule) -> None:
        self.config = config
        self._was_true = False
        self._owed = False  # a firing was lost, and what it was about is still there
        self._fired_s = float("-inf")
        self._not_before = float("-inf")
        self._diversity: Diversity | None = None  # with ``min_distance``, from the first record on
        self._bundle: str | None = None  # the one whose embeddings are in there

    def fires(
        self, labelled: LabelledFrame, scores: Mapping[str, LabelScore], captured_s: float
    ) -> bool:
        """Whether this frame is to be kept; a True is remembered."""
        config = self.config
        true = config.when is None or holds(config.when, scores, labelled.record.state)
        rose = true and not self._was_true
        self._was_true = true
        self._owed = self._owed and true

        every_frame = config.edge == "level" or config.when is None
        if not (true if every_frame else rose or self._owed):
            return False
        if captured_s < self._not_before:
            return False

        if config.min_distance is not None and labelled.record.bundle != self._bundle:
            # A reload brought another bundle: its embeddings cannot be compared with those of before.
            self._bundle = labelled.record.bundle
            self._diversity = Diversity(config.min_distance)
        if self._diversity is not None:
            embedding = labelled.embedding
            if embedding is None or not self._diversity.is_new(embedding):
                return False
            self._diversity.remember(embedding)

        self._owed = False
        self._fired_s = captured_s
        self._not_before = captured_s + max(
            config.min_interval_s, config.post_s
        )  # one open clip a rule
        return True

    def lost(self, captured_s: float, embedding: NDArray[Any] | None) -> None:
        """The frame it fired for will not be kept: it may fire again, a second after that one."""
        if self._diversity is not None and embedding is not None:
            self._diversity.forget(embedding)
        if captured_s == self._fired_s:  # else a newer one is on its way, and that one counts
            self._owed = True
            self._not_before = min(self._not_before, captured_s + AGAIN_S)


@dataclass(frozen=True, slots=True)
class Task:
    """What the rules found for the sink to do with a record. ``fired_before``: firings of all rules before it."""

    record: LabelRecord
    frame: Frame | None
    embedding: NDArray[Any] | None = None
    sampled: bool = False  # into the ring, and into every open clip
    fired: tuple[Rule, ...] = ()
    fired_before: int = 0


class Rules:
    """The pipeline's half: asks every rule about every record. Raises ConfigError for a label that is not there."""

    def __init__(self, config: TriggersConfig, label_names: Sequence[str]) -> None:
        check_labels(config, label_names)
        self._rules = [Rule(rule) for rule in config.rules]
        self._looks_back = any(rule.pre_s for rule in config.rules)
        self._interval_s = 1 / config.clip_fps
        self._next_sample_s = float("-inf")
        self._clip_open = False
        self._clips_end_s = float("-inf")
        self._wake = (
            True  # the sink is to get the next record, whatever that holds: here, to open its spool
        )
        self.fired = 0

    def choose(self, labelled: LabelledFrame) -> tuple[Task] | None:
        """A task when this frame is to be kept, or to go through the ring, or when a clip is to end."""
        record = labelled.record
        frame = labelled.frame
        now_s = record.mono_s if frame is None else frame.captured_s
        if self._clip_open and now_s > self._clips_end_s:
            self._clip_open = False
            self._wake = True
        wake = self._wake
        self._wake = False
        if (
            frame is None or record.state == "invalid"
        ):  # nothing to keep, nothing that a rule could have seen
            return self._task(LabelledFrame(record)) if wake else None

        scores = {label.name: label for label in record.labels}
        fired = tuple(
            rule for rule in self._rules if rule.fires(labelled, scores, frame.captured_s)
        )
        sampled = (self._clip_open or self._looks_back) and frame.captured_s >= self._next_sample_s
        if sampled:
            planned_s = self._next_sample_s + self._interval_s
            self._next_sample_s = max(planned_s, frame.captured_s + self._interval_s / 2)

        for rule in fired:
            if rule.config.save == "clip":
                self._clip_open = True
                self._clips_end_s = max(self._clips_end_s, frame.captured_s + rule.config.post_s)
        if not (sampled or fired or wake):
            return None
        return self._task(labelled, sampled, fired)

    def dropped(self, task: Task) -> None:
        """A full queue gave this task up: its rules may fire again, and the next record ends clips in its place."""
        self._wake = True
        for rule in task.fired:
            if task.frame is not None:
                rule.lost(task.frame.captured_s, task.embedding)

    def _task(
        self, labelled: LabelledFrame, sampled: bool = False, fired: tuple[Rule, ...] = ()
    ) -> tuple[Task]:
        task = Task(labelled.record, labelled.frame, labelled.embedding, sampled, fired, self.fired)
        self.fired += len(fired)
        return (task,)


@dataclass(slots=True)
class _Clip:
    """A clip that is still being written."""

    rule: TriggerRule
    record: LabelRecord
    fired_s: float
    draft: Draft
    avi: AviWriter
    fired_frame: int = 0

    @property
    def end_s(self) -> float:
        """When its last frame is taken."""
        return self.fired_s + self.rule.post_s


class TriggerSink:
    """Keeps what ``Rules`` chose. Raises ConfigError for a bad spool or hook.

    ``to_jpeg`` turns a frame into what is kept; ``to_clip_jpeg`` does it for clips, where many are made and smaller
    ones will do.
    """

    name = "triggers"

    def __init__(
        self,
        config: TriggersConfig,
        to_jpeg: Callable[[Frame], bytes],
        to_clip_jpeg: Callable[[Frame], bytes] | None = None,
    ) -> None:
        self._to_jpeg = to_jpeg
        self._to_clip_jpeg = to_clip_jpeg or to_jpeg
        looks_back = max((rule.pre_s for rule in config.rules if rule.save == "clip"), default=0.0)
        self._ring = Ring(looks_back, config.ring_mb * 1e6)
        self._open: list[_Clip] = []
        self._hook = (
            Hook(config.hook, config.hook_timeout_s, delete=config.delete_after_hook)
            if config.hook
            else None
        )
        try:
            self._spool = Spool(Path(config.spool), int(config.max_mb * 1e6))
        except BaseException:
            if self._hook:
                self._hook.close()
            raise
        self._hand_on_again = config.delete_after_hook
        self._opened = False
        self._fired = (
            0  # all that the newest task knows of, so those in tasks that a full queue lost, too
        )
        self.kept = 0

    @property
    def deleted(self) -> int:
        """Captures deleted to make room for newer ones."""
        return self._spool.deleted

    @property
    def lost(self) -> int:
        """Firings whose frame or clip was not kept."""
        return self._fired - self.kept - len(self._open)

    def write(self, task: Task) -> None:
        """Do what the rules found to do with a frame. One that is broken is passed over."""
        self._fired = task.fired_before + len(task.fired)
        if not self._opened:
            self._open_spool()
        frame = task.frame
        now_s = task.record.mono_s if frame is None else frame.captured_s
        # What has ended is finished first: then it may make room on a full disk for what begins now.
        steps = [partial(self._finish_clips, before_s=now_s), partial(self._take, task)]
        _do_all([*steps, partial(self._finish_clips, until_s=now_s)])

    def _open_spool(self) -> None:
        self._spool.open()
        self._opened = True
        if (
            self._hook and self._hand_on_again
        ):  # what is still there was not handed on before the last stop
            self._hook.extend(self._spool.captures(newest=WAITING))

    def _take(self, task: Task) -> None:
        frame = task.frame
        if frame is None or not (task.sampled or task.fired):
            return
        try:
            self._keep(task, frame)
        except DataError as error:
            log.debug("%s", error)

    def _keep(self, task: Task, frame: Frame) -> None:
        jpeg: bytes | None = None
        if task.sampled or any(rule.config.save == "clip" for rule in task.fired):
            jpeg = self._to_clip_jpeg(frame)
        steps: list[Callable[[], None]] = []
        if task.sampled and jpeg is not None:
            self._ring.add(frame.captured_s, jpeg)
            steps += [
                partial(self._append, clip, jpeg, frame.captured_s)
                for clip in self._open_at(frame.captured_s)
            ]

        for rule in task.fired:
            if rule.config.save == "clip" and jpeg is not None:
                steps.append(partial(self._start_clip, rule.config, task.record, frame, jpeg))
            else:
                steps.append(partial(self._keep_snapshot, rule.config, task.record, frame))
        _do_all(steps)

    def close(self) -> None:
        """Finish open clips with what they have; leave the hook at most a second."""
        try:
            self._finish_clips(until_s=float("inf"))
        finally:  # on a full disk they cannot be finished
            self._spool.close()
            if self._hook:
                self._hook.close()
            if self._fired or self._spool.deleted:
                counts = (self._fired, self.kept, self.lost, self._spool.deleted)
                log.info(
                    "triggers: fired %d times: %d captures kept, %d lost, %d deleted for room",
                    *counts,
                )

    def _start_clip(
        self, rule: TriggerRule, record: LabelRecord, frame: Frame, jpeg: bytes
    ) -> None:
        draft = self._spool.start(_name(rule, record), ".avi")
        try:
            clip = _Clip(rule, record, frame.captured_s, draft, AviWriter(draft.stream))
        except OSError:
            draft.abandon()
            raise
        self._open.append(clip)
        for time_s, old in self._ring.since(frame.captured_s - rule.pre_s):
            if time_s < frame.captured_s:
                self._append(clip, old, time_s)
        clip.fired_frame = clip.avi.frames
        self._append(clip, jpeg, frame.captured_s)

    def _keep_snapshot(self, rule: TriggerRule, record: LabelRecord, frame: Frame) -> None:
        jpeg = self._to_jpeg(frame)
        draft = self._spool.start(_name(rule, record), ".jpg")
        try:
            if not draft.reserve(len(jpeg)):
                raise _too_large(rule)
            draft.stream.write(jpeg)
        except OSError:
            draft.abandon()
            raise
        self._finish(draft, rule, record, {})

    def _open_at(self, time_s: float) -> list[_Clip]:
        return [clip for clip in self._open if time_s <= clip.end_s]

    def _append(self, clip: _Clip, jpeg: bytes, time_s: float) -> None:
        """Add a frame, the cap held even while clips are unfinished; a clip that alone is too long ends early."""
        grown = clip.avi.size_with(jpeg)
        if grown > avi.MAX_BYTES or not clip.draft.reserve(grown - clip.draft.reserved):
            return
        try:
            clip.avi.add(jpeg, time_s)
        except OSError:
            self._open.remove(clip)
            clip.draft.abandon()
            raise

    def _finish_clips(
        self, *, until_s: float = float("-inf"), before_s: float = float("-inf")
    ) -> None:
        """Finish the clips whose end is not after ``until_s``, or before ``before_s``."""
        ended = [clip for clip in self._open if clip.end_s <= until_s or clip.end_s < before_s]
        _do_all([partial(self._finish_clip, clip) for clip in ended])

    def _finish_clip(self, clip: _Clip) -> None:
        self._open.remove(clip)
        if not clip.avi.frames:
            clip.draft.abandon()
            return
        try:
            clip.avi.finish()
        except OSError:
            clip.draft.abandon()
            raise
        fields = {
            "frames": clip.avi.frames,
            "fps": round(clip.avi.fps, 3),
            "frame_times_s": clip.avi.offsets_s,
            "fired_frame": clip.fired_frame,
        }
        self._finish(clip.draft, clip.rule, clip.record, fields)

    def _finish(
        self, draft: Draft, rule: TriggerRule, record: LabelRecord, fields: dict[str, Any]
    ) -> None:
        def sidecar(media: str, size: int) -> dict[str, Any]:
            head = {
                "schema": SCHEMA,
                "rule": rule.name,
                "kind": rule.save,
                "file": media,
                "bytes": size,
            }
            return {**head, **fields, "record": record.to_dict()}

        capture = draft.finish(sidecar)
        if capture is None:
            raise _too_large(rule)
        self.kept += 1
        if self._hook:
            self._hook.extend([capture])


def _do_all(steps: Iterable[Callable[[], None]]) -> None:
    """Every step, whatever becomes of the others; then the first exception is raised."""
    first: Exception | None = None
    for step in steps:
        try:
            step()
        except Exception as error:
            first = first or error
    if first is not None:
        raise first


def _too_large(rule: TriggerRule) -> OSError:
    return OSError(
        errno.ENOSPC,
        f"a capture of rule {rule.name} alone is larger than triggers.max_mb; raise that",
    )


def _name(rule: TriggerRule, record: LabelRecord) -> str:
    return f"{rule.name}-{datetime.fromisoformat(record.time):%Y%m%dT%H%M%SZ}"


def check_labels(config: TriggersConfig, names: Sequence[str]) -> None:
    """Raise ConfigError for a rule on a label that is not among ``names``, with the nearest one."""
    for rule in config.rules:
        for label in sorted(rule.when.labels if rule.when else ()):
            if label not in names:
                near = difflib.get_close_matches(label, names, n=1)
                hint = (
                    f"did you mean '{near[0]}'?"
                    if near
                    else "edge-label labels list SET shows what can be on"
                )
                raise ConfigError(
                    f"triggers: rule {rule.name}: the label set has no '{label}' to report",
                    f"{hint}",
                )
