"""The pictures of one group of labels, and what they teach it.

Here "none of these" meets the background prompts: both mean that no label fits. How a group is
fitted is in ``teaching.py``; where pictures come from is in ``learn.py``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from edge_runtime.commands.teaching_pictures import TeachingPicture
from edge_runtime.errors import DataError
from edge_runtime.model.bundle import Bundle
from edge_runtime.model.labels.compiled import CompiledLabels
from edge_runtime.model.labels.correction import Words
from edge_runtime.model.labels.label_set import LabelSet
from edge_runtime.model.labels.none_of_these import fit_none_alone, none_row
from edge_runtime.model.labels.taught import NONE, TaughtGroup, count_answers, words_of
from edge_runtime.model.labels.teaching import FOLDS, teach

MOST_LABELS = 1000  # of one group; the fit holds a square of them


@dataclass(frozen=True, slots=True)
class Seen:
    """A picture that was encoded: its embedding, float32 (dim,), and the sha256 of its file."""

    picture: TeachingPicture
    embedding: NDArray[np.float32]
    sha256: str


class GroupLesson:
    """The pictures of one group, each once.

    A picture of a label that is also in none/ shows its label in the label's group, and none of the
    labels of the other groups. Raises DataError where one picture is under two labels.

    Attributes:
        words: The label set as it is without pictures.
        place: Of the group in it.
        labels: Of the group, and `NONE` last where pictures show it.
        pictured: Those that have pictures.
        seen: The pictures.
        truth: int (pictures,): the place of each picture's label in ``labels``.
    """

    def __init__(self, words: CompiledLabels, place: int, seen: Sequence[Seen]) -> None:
        self.words = words
        self.place = place
        self.name, self._rows = words.groups[place]

        own = words.names[self._rows]
        shown = _each_once(seen, {*own, NONE})
        self.pictured = {label for _, label in shown}
        self.labels = (*own, NONE) if NONE in self.pictured else own
        self.seen = [one for one, _ in shown]
        self.truth = np.array([self.labels.index(label) for _, label in shown], np.intp)

    @property
    def can_teach(self) -> bool:
        """Whether there is something to tell a label from. Words tell it for none/ alone."""
        return len(self.pictured) > 1 or self.pictured == {NONE}

    @property
    def why_not(self) -> str:
        """Why the group cannot be taught with the pictures that it has; empty where it can."""
        if self.can_teach or not self.pictured:
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
    def scale(self) -> float:
        """Of the group's logits."""
        return self.words.scales[self.place]

    @property
    def text_rows(self) -> NDArray[np.float32]:
        """The rows of all that competes: labels, background prompts, and where pictures show it
        "none of these", which begins at the mean of the background."""
        labels = self.words.matrix[self._rows]
        background = self.words.matrix[len(self.words.names) :]
        none = [none_row(labels, background)] if NONE in self.labels else []
        return np.vstack([labels, background, *none]).astype(np.float32)

    @property
    def biases(self) -> NDArray[np.float32]:
        """Those of `text_rows`."""
        biases = np.zeros(len(self.text_rows), np.float32)
        own = self.words.biases[self._rows]
        biases[: len(own)] = own
        return biases

    @property
    def quiet(self) -> NDArray[np.bool_]:
        """Which of `text_rows` are never on."""
        quiet = np.ones(len(self.text_rows), bool)
        own = self.words.background[self._rows]
        quiet[: len(own)] = own
        return quiet

    def words_right(self) -> int:
        """How many of the pictures the words alone answer rightly."""
        logits = self.scale * (self.embeddings @ self.text_rows.T) + self.biases
        if NONE in self.labels:
            logits = logits[:, :-1]
        answers = self.name_answers(logits.argmax(axis=1), self.truth)
        return sum(label == answer for label, answer in answers)

    def name_answers(
        self, answers: NDArray[np.integer], truth: NDArray[np.integer]
    ) -> list[tuple[str, str]]:
        """(label, answer) by name, of places in `text_rows` and in ``labels``.

        What is beyond the labels of the set is none of them, and a background label answers "none
        of these" rightly.
        """
        quiet = self.words.background[self._rows].tolist()
        named = []
        for own, answer in zip(truth.tolist(), answers.tolist(), strict=True):
            label = self.labels[own]
            is_none = answer >= len(quiet) or (label == NONE and quiet[answer])
            named.append((label, NONE if is_none else self.labels[answer]))
        return named


def _each_once(seen: Sequence[Seen], labels: set[str]) -> list[tuple[Seen, str]]:
    """The pictures of some labels, and the label of each. Raises DataError for one under two."""
    first: dict[bytes, tuple[Seen, str]] = {}
    for one in seen:
        key = one.embedding.tobytes()
        for label in labels & set(one.picture.labels):
            known, label_before = first.get(key, (one, label))
            if NONE not in (label, label_before) and label_before != label:
                raise DataError(
                    f"{known.picture.path} and {one.picture.path}: the same picture under "
                    f"'{label_before}' and '{label}'",
                    "keep it under one of them",
                )
            if key not in first or label_before == NONE:
                first[key] = (one, label)
    return list(first.values())


def teach_group(
    lesson: GroupLesson, label_set: LabelSet, bundle: Bundle, mean_text: NDArray[np.floating]
) -> TaughtGroup:
    """What the pictures make of a group. The background prompts compete as labels without pictures.

    Where only "none of these" has pictures, it gets a row and the labels keep their words;
    ``mean_text`` (dim,), the mean of all text rows, is for that. Raises DataError for a group of
    too many labels.
    """
    if len(lesson.text_rows) > MOST_LABELS:
        raise DataError(
            f"group {lesson.name}: {len(lesson.text_rows)} labels and background prompts are more "
            f"than the {MOST_LABELS} that can be taught together",
            "split the group",
        )

    if lesson.pictured == {NONE}:
        taught = _none_alone(lesson, bundle.manifest.threshold, mean_text)
    else:
        taught = _labels(lesson, bundle.manifest.threshold)

    specs = {label.name: label for label in label_set.labels}
    words = [
        words_of(specs.get(label), label_set, lesson.name, bundle.manifest)
        for label in taught.labels
    ]
    words_right = lesson.words_right() if taught.answers else 0
    return replace(taught, words=tuple(words), words_right=words_right)


def _labels(lesson: GroupLesson, threshold: float) -> TaughtGroup:
    rows = lesson.text_rows
    last = len(rows) - 1
    is_none = np.array([label == NONE for label in lesson.labels])
    taught = teach(
        lesson.embeddings,
        np.where(is_none[lesson.truth], last, lesson.truth),
        rows,
        lesson.scale,
        biases=lesson.biases,
        threshold=threshold,
        background=lesson.quiet,
        none=last if is_none.any() else None,
    )

    # The background prompts stand between the labels and "none of these".
    places = np.where(is_none, last, np.arange(len(lesson.labels)))
    truth, answers = np.nonzero(taught.confusion)
    counts = taught.confusion[truth, answers]
    truth = np.minimum(truth, len(lesson.labels) - 1)
    named = lesson.name_answers(np.repeat(answers, counts), np.repeat(truth, counts))
    return TaughtGroup(
        name=lesson.name,
        labels=lesson.labels,
        words=(),
        rows=taught.rows[places],
        biases=taught.biases[places],
        factor=taught.trust / taught.temperature,
        threshold=taught.threshold,
        words_right=0,
        answers=count_answers(named),
    )


def _none_alone(
    lesson: GroupLesson, threshold: float, mean_text: NDArray[np.floating]
) -> TaughtGroup:
    words = Words(
        lesson.text_rows.astype(np.float64), lesson.biases.astype(np.float64), lesson.scale
    )
    pictures = lesson.embeddings.astype(np.float64)
    row, bias = fit_none_alone(words, pictures, mean_text)

    # Pictures that follow one another are held out together, as in `teach`.
    named: list[tuple[str, str]] = []
    parts = np.array_split(np.arange(len(pictures)), min(FOLDS, len(pictures)))
    for part in parts if len(parts) > 1 else []:
        other_row, other_bias = fit_none_alone(words, np.delete(pictures, part, axis=0), mean_text)
        logits = words(pictures[part])
        logits[:, -1] = lesson.scale * pictures[part] @ other_row + other_bias
        named += lesson.name_answers(logits.argmax(axis=1), lesson.truth[part])

    return TaughtGroup(
        name=lesson.name,
        labels=(NONE,),
        words=(),
        rows=row[None].astype(np.float32),
        biases=np.array([bias], np.float32),
        factor=1.0,
        threshold=threshold,
        words_right=0,
        answers=count_answers(named),
    )


def digests_of(lessons: Sequence[GroupLesson]) -> dict[str, tuple[str, ...]]:
    """Label -> sha256 of the pictures that taught it."""
    digests: dict[str, list[str]] = {}
    for lesson in lessons:
        if lesson.can_teach:
            for one, place in zip(lesson.seen, lesson.truth.tolist(), strict=True):
                digests.setdefault(lesson.labels[place], []).append(one.sha256)
    return {label: tuple(dict.fromkeys(of)) for label, of in digests.items()}
