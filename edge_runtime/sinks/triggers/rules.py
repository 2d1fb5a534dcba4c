"""Which frames are worth keeping: conditions over labels, rules, and the memory of each rule.

All of this runs in the pipeline's thread. What is kept, and where, is the sink's part (sink.py).

A rule fires when its condition becomes true (``edge: rising``) or while it is true (``level``), at
most once in ``min_interval_s``. With ``min_distance`` it fires only for a frame that looks
different from those that it chose before, by the cosine distance 1 - a.b of the image embeddings.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_runtime.config import Condition, TriggerRule, TriggersConfig
from edge_runtime.errors import ConfigError
from edge_runtime.records import Frame, LabelledFrame, LabelRecord, LabelScore

DIVERSITY_MEMORY = 512  # embeddings that a rule remembers: 1 MB at 512 dimensions
AGAIN_S = 1.0  # the shortest time between firings while they are lost, as when a disk hangs


def holds(condition: Condition, scores: Mapping[str, LabelScore], state: str) -> bool:
    """Whether a record meets the condition. A label that the record does not list has score 0."""
    if condition.label is not None:
        return _label_holds(condition, scores.get(condition.label))
    if condition.state is not None:
        return condition.state == state
    if condition.all is not None:
        return all(holds(inner, scores, state) for inner in condition.all)
    if condition.any is not None:
        return any(holds(inner, scores, state) for inner in condition.any)
    return condition.not_ is None or not holds(condition.not_, scores, state)


def _label_holds(condition: Condition, label: LabelScore | None) -> bool:
    low = condition.min_score
    high = condition.max_score
    if low is None and high is None:
        return label is not None and label.on

    score = label.score if label else 0.0
    return (low is None or score >= low) and (high is None or score <= high)


def check_labels(config: TriggersConfig, names: Sequence[str]) -> None:
    """Raise ConfigError for a rule on a label that is not among ``names``, with the nearest one."""
    for rule in config.rules:
        for label in sorted(rule.when.labels if rule.when else ()):
            if label in names:
                continue
            advice = "edge-label labels list SET shows what can be on"
            matches = difflib.get_close_matches(label, names, n=1)
            if matches:
                advice = f"did you mean '{matches[0]}'?"
            what = f"triggers: rule {rule.name}: the label set has no '{label}' to report"
            raise ConfigError(what, advice)


class Diversity:
    """Remembers the embeddings of chosen frames: the newest `DIVERSITY_MEMORY`, oldest first."""

    def __init__(self, min_distance: float) -> None:
        self._max_cosine = 1 - min_distance
        self._rows: NDArray[np.float32] | None = None  # (DIVERSITY_MEMORY, dim), made when needed
        self._count = 0

    def is_new(self, embedding: NDArray[Any]) -> bool:
        """Whether a unit embedding (dim,) is ``min_distance`` away from all; False for NaN."""
        if self._rows is None or not self._count:
            return bool(np.isfinite(embedding).all())
        cosines = self._rows[: self._count] @ embedding
        return bool(cosines.max() <= self._max_cosine)

    def remember(self, embedding: NDArray[Any]) -> None:
        """Add the embedding of a chosen frame, in place of the oldest when the memory is full."""
        if self._rows is None:
            self._rows = np.empty((DIVERSITY_MEMORY, len(embedding)), np.float32)
        if self._count == DIVERSITY_MEMORY:
            self._remove(0)
        self._rows[self._count] = embedding
        self._count += 1

    def forget(self, embedding: NDArray[Any]) -> None:
        """Remove the embedding of a frame that was chosen and then lost."""
        for row in range(self._count - 1, -1, -1):
            if self._rows is not None and np.array_equal(self._rows[row], embedding):
                self._remove(row)
                return

    def _remove(self, row: int) -> None:
        if self._rows is not None:
            self._rows[row : self._count - 1] = self._rows[row + 1 : self._count]
            self._count -= 1


class Rule:
    """A TriggerRule and what it remembers."""

    def __init__(self, config: TriggerRule) -> None:
        self.config = config
        self._was_true = False
        self._owed = False  # a firing was lost, and its condition has been true ever since
        self._fired_s = float("-inf")
        self._not_before_s = float("-inf")
        self._diversity: Diversity | None = None  # with ``min_distance``, from the first record on
        self._bundle: str | None = None  # the model that made the embeddings in ``_diversity``

    def fires(
        self,
        labelled: LabelledFrame,
        scores: Mapping[str, LabelScore],
        captured_s: float,
    ) -> bool:
        """Whether this frame is to be kept. A rule that fires remembers the frame."""
        if not self._is_due(labelled, scores) or captured_s < self._not_before_s:
            return False
        if self.config.min_distance is not None and not self._looks_new(labelled):
            return False

        self._owed = False
        self._fired_s = captured_s
        # Not while its clip is open: a rule writes one clip at a time.
        pause_s = max(self.config.min_interval_s, self.config.post_s)
        self._not_before_s = captured_s + pause_s
        return True

    def _is_due(self, labelled: LabelledFrame, scores: Mapping[str, LabelScore]) -> bool:
        """Whether the condition is true now, or has just become true, whichever the rule is for."""
        condition = self.config.when
        is_true = condition is None or holds(condition, scores, labelled.record.state)
        rose = is_true and not self._was_true
        self._was_true = is_true
        self._owed = self._owed and is_true

        if self.config.edge == "level" or condition is None:
            return is_true
        return rose or self._owed

    def _looks_new(self, labelled: LabelledFrame) -> bool:
        if self._diversity is None or labelled.record.bundle != self._bundle:
            # A reload may bring another model. Embeddings of two models cannot be compared.
            self._bundle = labelled.record.bundle
            self._diversity = Diversity(self.config.min_distance or 0.0)

        embedding = labelled.embedding
        if embedding is None or not self._diversity.is_new(embedding):
            return False
        self._diversity.remember(embedding)
        return True

    def lost(self, captured_s: float, embedding: NDArray[Any] | None) -> None:
        """Take back a firing whose frame will not be kept; the rule may fire again soon."""
        if self._diversity is not None and embedding is not None:
            self._diversity.forget(embedding)
        # If the rule has fired again since, that newer firing is in the queue and counts.
        if captured_s == self._fired_s:
            self._owed = True
            self._not_before_s = min(self._not_before_s, captured_s + AGAIN_S)


@dataclass(frozen=True, slots=True)
class Task:
    """What the sink has to do with one record.

    Attributes:
        record: The record.
        frame: Its picture; None when the task only wakes the sink.
        embedding: The image embedding (dim,), for a rule that must forget it.
        sampled: The picture goes into the ring and into every open clip.
        fired: The rules that chose this frame.
        fired_before: How often all rules fired before this record.
    """

    record: LabelRecord
    frame: Frame | None
    embedding: NDArray[Any] | None = None
    sampled: bool = False
    fired: tuple[Rule, ...] = ()
    fired_before: int = 0


class Rules:
    """The pipeline's half of the triggers: asks every rule about every record. A `Chooser`.

    Raises ConfigError for a rule on a label that is not among ``label_names``.
    """

    def __init__(self, config: TriggersConfig, label_names: Sequence[str]) -> None:
        check_labels(config, label_names)
        self._rules = [Rule(rule) for rule in config.rules]
        self._looks_back = any(rule.pre_s for rule in config.rules)
        self._interval_s = 1 / config.clip_fps
        self._next_sample_s = float("-inf")
        self._clip_open = False
        self._clips_end_s = float("-inf")
        # The sink is to get the next record, whatever that holds. The first one makes it open its
        # spool.
        self._wake = True
        self.fired = 0

    def choose(self, labelled: LabelledFrame) -> tuple[Task] | None:
        """A task when the frame is to be kept or sampled, or when a clip has to end."""
        record = labelled.record
        frame = labelled.frame
        now_s = record.mono_s if frame is None else frame.captured_s
        wake = self._must_wake(now_s)
        if frame is None or record.state == "invalid":  # no picture that could be kept
            return self._task(LabelledFrame(record)) if wake else None

        scores = {label.name: label for label in record.labels}
        fired = tuple(rule for rule in self._rules if rule.fires(labelled, scores, now_s))
        sampled = self._is_sampled(now_s)
        self._note_clips(fired, now_s)

        if not (sampled or fired or wake):
            return None
        return self._task(labelled, sampled, fired)

    def dropped(self, task: Task) -> None:
        """A full queue dropped this task: its rules may fire again, the next record ends clips."""
        self._wake = True
        for rule in task.fired:
            if task.frame is not None:
                rule.lost(task.frame.captured_s, task.embedding)

    def _must_wake(self, now_s: float) -> bool:
        """Whether the sink needs this record even if no rule fires."""
        if self._clip_open and now_s > self._clips_end_s:
            self._clip_open = False
            self._wake = True
        wake = self._wake
        self._wake = False
        return wake

    def _is_sampled(self, captured_s: float) -> bool:
        """Whether the frame goes into the ring and the clips, ``clip_fps`` times a second."""
        is_used = self._clip_open or self._looks_back
        if not is_used or captured_s < self._next_sample_s:
            return False
        # The plan keeps the mean rate; after a gap it starts anew, at half an interval at the
        # least.
        planned_s = self._next_sample_s + self._interval_s
        self._next_sample_s = max(planned_s, captured_s + self._interval_s / 2)
        return True

    def _note_clips(self, fired: Sequence[Rule], captured_s: float) -> None:
        for rule in fired:
            if rule.config.save == "clip":
                self._clip_open = True
                self._clips_end_s = max(self._clips_end_s, captured_s + rule.config.post_s)

    def _task(
        self,
        labelled: LabelledFrame,
        sampled: bool = False,
        fired: tuple[Rule, ...] = (),
    ) -> tuple[Task]:
        task = Task(labelled.record, labelled.frame, labelled.embedding, sampled, fired, self.fired)
        self.fired += len(fired)
        return (task,)
