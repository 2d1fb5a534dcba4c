"""The pictures of one group of labels, and what they teach it.

Here "none of these" meets the background: the words' answers and the taught ones are counted in the
same way. How a group is fitted is in ``teaching.py``; where pictures come from is in ``learn.py``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge_runtime.commands.teaching_pictures import TeachingPicture
from edge_runtime.errors import DataError
from edge_runtime.model.bundle import Bundle
from edge_runtime.model.labels.compiled import CompiledLabels
from edge_runtime.model.labels.label_set import LabelSet
from edge_runtime.model.labels.none_of_these import none_row
from edge_runtime.model.labels.taught import NONE, Answer, TaughtGroup, count_answers, words_of
from edge_runtime.model.labels.teaching import Taught, teach

MOST_LABELS = 1000  # of one group; the fit holds a square of them


@dataclass(frozen=True, slots=True)
class Seen:
    """A picture that was encoded: its embedding, float32 (dim,), and the sha256 of its file."""

    picture: TeachingPicture
    embedding: NDArray[np.float32]
    sha256: str


class GroupLesson:
    """The pictures of one group, each once.

    Raises DataError where one picture is under two labels.

    Attributes:
        words: The label set as it is without pictures.
        place: Of the group in it.
        labels: Of the group, and `NONE` last where pictures show it.
        seen: The pictures.
        truth: int (pictures,): the place of each picture's label in ``labels``.
    """

    def __init__(self, words: CompiledLabels, place: int, seen: Sequence[Seen]) -> None:
        self.words = words
        self.place = place
        self.name, self.rows = words.groups[place]

        own = words.names[self.rows]
        shown = _each_once(seen, {*own, NONE})
        self.pictured = {label for _, label in shown}
        self.can_teach = bool(self.pictured - {NONE}) and len(self.pictured) > 1
        self.labels = (*own, NONE) if NONE in self.pictured else own
        self.seen = [one for one, _ in shown]
        self.truth = np.array([self.labels.index(label) for _, label in shown], np.intp)

    @property
    def why_not(self) -> str:
        """Why the group cannot be taught with the pictures that it has; empty where it can."""
        if self.can_teach or not self.pictured - {NONE}:
            return ""
        (label,) = self.pictured
        return (
            f"group {self.name}: all pictures are of '{label}', so there is nothing to tell it "
            "from: add pictures of another of its labels, or of none/"
        )

    @property
    def embeddings(self) -> NDArray[np.float32]:
        """float32 (pictures, dim)."""
        return np.stack([one.embedding for one in self.seen])

    @property
    def background_rows(self) -> NDArray[np.float32]:
        """The rows of the background prompts, which compete in every group."""
        return self.words.matrix[self.words.rivals[self.place].rows]

    def words_right(self) -> int:
        """How many of the pictures the words alone answer rightly."""
        scale = self.words.scales[self.place]
        rows = np.concatenate((self.words.matrix[self.rows], self.background_rows))
        logits = scale * (self.embeddings @ rows.T)
        logits[:, : len(self._quiet)] += self.words.biases[self.rows]
        answers = self.name_answers(logits.argmax(axis=1), self.truth)
        return sum(label == answer for label, answer in answers)

    def name_answers(
        self, answers: NDArray[np.integer], truth: NDArray[np.integer]
    ) -> list[tuple[str, str]]:
        """(label, answer) by name. What is beyond the labels of the set is none of them, and a
        background label answers "none of these" rightly."""
        quiet = self._quiet
        named = []
        for own, answer in zip(truth.tolist(), answers.tolist(), strict=True):
            label = self.labels[own]
            is_none = answer >= len(quiet) or (label == NONE and quiet[answer])
            named.append((label, NONE if is_none else self.labels[answer]))
        return named

    @property
    def _quiet(self) -> list[bool]:
        """Which labels of the set are never on."""
        return list(self.words.background[self.rows].tolist())


def _each_once(seen: Sequence[Seen], labels: set[str]) -> list[tuple[Seen, str]]:
    """The pictures of some labels, and the label of each. Raises DataError for one under two."""
    first: dict[bytes, tuple[Seen, str]] = {}
    for one in seen:
        for label in labels & set(one.picture.labels):
            known, label_before = first.setdefault(one.embedding.tobytes(), (one, label))
            if label_before != label:
                raise DataError(
                    f"{known.picture.path} and {one.picture.path}: the same picture under "
                    f"'{label_before or 'none'}' and '{label or 'none'}'",
                    "keep it under one of them",
                )
    return list(first.values())


def teach_group(lesson: GroupLesson, label_set: LabelSet, bundle: Bundle) -> TaughtGroup:
    """What the pictures make of a group.

    Where pictures of "none of these" teach, one row begins at the mean of the background prompts
    and takes their place. Otherwise they compete as labels without pictures. Raises DataError for
    a group of too many labels.
    """
    words = lesson.words
    text_rows = words.matrix[lesson.rows]
    if len(text_rows) > MOST_LABELS:
        raise DataError(
            f"group {lesson.name}: {len(text_rows)} labels are more than the {MOST_LABELS} that "
            "can be taught together",
            "split the group",
        )

    none = None
    others = lesson.background_rows
    if NONE in lesson.labels:
        none = len(text_rows)
        others = none_row(text_rows, others)[None].astype(np.float32)

    taught = teach(
        lesson.embeddings,
        lesson.truth,
        np.concatenate((text_rows, others)),
        words.scales[lesson.place],
        biases=np.append(words.biases[lesson.rows], np.zeros(len(others))),
        threshold=bundle.manifest.threshold,
        background=np.append(words.background[lesson.rows], np.ones(len(others), bool)),
        none=none,
    )

    count = len(lesson.labels)
    specs = {label.name: label for label in label_set.labels}
    return TaughtGroup(
        name=lesson.name,
        labels=lesson.labels,
        words=tuple(
            words_of(specs.get(label), label_set, lesson.name, bundle.manifest)
            for label in lesson.labels
        ),
        rows=taught.rows[:count],
        biases=taught.biases[:count],
        factor=taught.trust / taught.temperature,
        threshold=taught.threshold,
        words_right=lesson.words_right() if taught.held_out else 0,
        answers=_answers(taught, lesson),
    )


def _answers(taught: Taught, lesson: GroupLesson) -> tuple[Answer, ...]:
    truth, answers = np.nonzero(taught.confusion)
    counts = taught.confusion[truth, answers]
    named = lesson.name_answers(np.repeat(answers, counts), np.repeat(truth, counts))
    return count_answers(named)


def digests_of(lessons: Sequence[GroupLesson]) -> dict[str, tuple[str, ...]]:
    """Label -> sha256 of the pictures that taught it."""
    digests: dict[str, list[str]] = {}
    for lesson in lessons:
        if lesson.can_teach:
            for one, place in zip(lesson.seen, lesson.truth.tolist(), strict=True):
                digests.setdefault(lesson.labels[place], []).append(one.sha256)
    return {label: tuple(dict.fromkeys(of)) for label, of in digests.items()}
