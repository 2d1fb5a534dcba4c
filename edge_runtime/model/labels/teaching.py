"""Teach labels with a few pictures: a correction to the text rows, chosen on held-out pictures.

`correction` has the fit, whose prior is the words. Here pictures that did not teach decide how
strong that prior is, and which temperature and threshold suit the scores. Nothing here reads files,
knows a bundle or encodes a picture. Why this method and these constants:
docs/decisions/022-teaching-labels.md.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from edge_runtime.errors import DataError
from edge_runtime.model.labels.correction import (
    Floats,
    Indices,
    Lesson,
    Words,
    log_losses,
    sharpness_of,
    softmax,
)
from edge_runtime.model.labels.none_of_these import fit_none

# Strengths that held-out pictures choose from. As a prior each is constant: pictures outweigh it.
STRENGTHS = (10.0, 30.0, 100.0, 300.0)

# With one picture a label nothing can be held out. Many labels are each other's counter-examples
# and bear a weaker prior: 300 up to 10 labels, 30 from 100 labels on.
FIRST_PICTURES = 3000.0
FIRST_STRENGTHS = (30.0, 300.0)

# The words of a set are trusted in full unless the pictures say that they are this much too sure.
TRUSTED = 0.7
TRUST_SPREAD = 0.5  # of the prior on the logarithm of the words' temperature

CALIBRATION_SPREAD = 0.25  # as TRUST_SPREAD, of the temperature of the scores
FOLDS = 4
AS_GOOD = 0.5  # standard errors of the log loss within which the stronger prior is taken
CLEARLY_WORSE = 2.0  # standard errors by which the words must be right more often to be taken alone
MIN_GAIN = 0.05  # of the held-out pictures; a smaller gain does not move a threshold


@dataclass(frozen=True, slots=True)
class Taught:
    """What pictures make of the labels of one group.

    Attributes:
        rows: float32 (labels, dim), not of unit norm; a logit is ``scale * rows @ x + biases``.
        biases: float32 (labels,).
        temperature: What ``rows`` and ``biases`` are divided by already.
        threshold: Fits the scores that come of these logits.
        confusion: int (labels, labels), held-out pictures by their label (row) and answer (column).
        words_right: How many of the held-out pictures the words alone answer rightly.
        trust: What the words' logits are multiplied by.
        strength: Of the prior; None where the words alone were clearly better.
    """

    rows: NDArray[np.float32]
    biases: NDArray[np.float32]
    temperature: float
    threshold: float
    confusion: NDArray[np.int64]
    words_right: int
    trust: float
    strength: float | None

    @property
    def held_out(self) -> int:
        """How many pictures were held out; 0 with one picture a label."""
        return int(self.confusion.sum())

    @property
    def right(self) -> int:
        """How many of the held-out pictures are answered rightly now."""
        return int(np.trace(self.confusion))


@dataclass(frozen=True, slots=True)
class _HeldOut:
    """Answers to pictures that did not teach: logits (pictures, labels) by strength.

    The strength None is the words alone.
    """

    labels: Indices
    logits: dict[float | None, Floats]

    def right(self, strength: float | None) -> NDArray[np.bool_]:
        """(pictures,): which were answered by their label."""
        return np.asarray(self.logits[strength].argmax(axis=1) == self.labels)

    def losses(self, strength: float | None) -> Floats:
        """Log losses at the temperature that suits these logits best: only what they say counts."""
        logits = self.logits[strength]
        return log_losses(sharpness_of(logits, self.labels) * logits, self.labels)


def teach(
    pictures: NDArray[np.floating],
    labels: NDArray[np.integer],
    text_rows: NDArray[np.floating],
    scale: float,
    *,
    biases: NDArray[np.floating] | None = None,
    threshold: float = 0.0,
    background: NDArray[np.bool_] | None = None,
    none: int | None = None,
) -> Taught:
    """Rows, biases, temperature and threshold of one group of labels from pictures of them.

    ``pictures`` are embeddings (pictures, dim) of unit norm, in the order they were taken;
    ``labels`` (pictures,) says which row of ``text_rows`` (labels, dim) each one shows.
    ``threshold`` is the one in force without pictures; ``background`` (labels,) marks rows that
    are never on. ``none`` is the row of 'none of these', if there is one (`none_row`): it is taught
    after the others, so that its pictures change no answer among the labels.
    The same input gives the same output, to the bit on one machine. Without pictures the answer is
    that of the words.

    Raises DataError when all pictures are of one label, or one picture is of two.
    """
    words = Words(
        np.asarray(text_rows, np.float64),
        np.zeros(len(text_rows)) if biases is None else np.asarray(biases, np.float64),
        scale,
    )
    quiet = np.zeros(len(words.rows), bool) if background is None else background
    images, targets = _distinct(np.asarray(pictures, np.float64), np.asarray(labels, np.intp))

    if not len(images):
        return _from_words(words, threshold)
    counts = np.bincount(targets, minlength=len(words.rows))
    if np.count_nonzero(counts) < 2:
        raise DataError("all pictures are of one label", "add pictures of another, or of 'none'")

    if none is None or not counts[none] or np.count_nonzero(counts) == 2:
        return _teach(words, images, targets, threshold, quiet)[0]
    return _teach_with_none(words, images, targets, threshold, quiet, none)


def _teach(
    words: Words, images: Floats, labels: Indices, threshold: float, quiet: NDArray[np.bool_]
) -> tuple[Taught, Floats | None]:
    """What pictures of two labels or more teach, and the calibrated logits (pictures, labels) of
    the held-out pictures; None where nothing could be held out."""
    trust = trust_in_words(words(images), labels)
    held_out = _hold_out(images, labels, words, trust)
    if held_out is None:
        first = _first_strength(len(words.rows), trust)
        return replace(fit(words, images, labels, trust, first), threshold=threshold), None

    strength = _choose(held_out)
    if strength is None:
        taught = _from_words(words, threshold)
    else:
        taught = fit(words, images, labels, trust, strength)
    calibrated = _calibrated(taught, held_out, threshold, quiet)
    return calibrated, held_out.logits[strength] / calibrated.temperature


def _teach_with_none(
    words: Words,
    images: Floats,
    labels: Indices,
    threshold: float,
    quiet: NDArray[np.bool_],
    none: int,
) -> Taught:
    """Teach the labels among themselves, then the row ``none`` against all of them together.

    In one fit the pictures of none would judge the words of the labels and weaken them: that cost
    up to 5 points of right answers.
    """
    own = labels != none
    others = np.arange(len(words.rows)) != none
    among = Words(words.rows[others], words.biases[others], words.scale)
    taught, held_out = _teach(
        among, images[own], labels[own] - (labels[own] > none), threshold, quiet[others]
    )

    logits = words.scale * images @ taught.rows.T + taught.biases
    row, bias = fit_none(words, images, own, logits, none)
    taught = replace(
        taught,
        rows=np.insert(taught.rows, none, row, axis=0),
        biases=np.insert(taught.biases, none, bias),
        confusion=np.insert(np.insert(taught.confusion, none, 0, axis=0), none, 0, axis=1),
    )
    if held_out is None:
        return taught

    logits[own] = held_out
    answers = np.insert(logits, none, _held_out_none(words, images, labels, logits, none), axis=1)
    return _judged(taught, answers, words(images), labels, threshold, quiet)


def _held_out_none(
    words: Words, images: Floats, labels: Indices, logits: Floats, none: int
) -> Floats:
    """The logit of 'none' (pictures,) of pictures that did not teach it, in turn."""
    own = labels != none
    folds = _folds(labels)
    answers = np.empty(len(images))
    for fold in range(folds.max() + 1):
        asked = folds == fold
        row, bias = fit_none(words, images[~asked], own[~asked], logits[~asked], none)
        answers[asked] = words.scale * images[asked] @ row + bias
    return answers


def trust_in_words(logits: Floats, labels: Indices) -> float:
    """By how much to multiply the words' logits (pictures, labels): 1, or less where they mislead.

    The pictures never taught the words, so this is an honest look even at one picture a label. It
    is the inverse of the temperature of Guo et al. (ICML 2017), with a prior around 1.
    """
    sharpness = sharpness_of(logits, labels, spread=TRUST_SPREAD)
    return sharpness if sharpness < TRUSTED else 1.0


def _from_words(words: Words, threshold: float) -> Taught:
    count = len(words.rows)
    return Taught(
        rows=words.rows.astype(np.float32),
        biases=words.biases.astype(np.float32),
        temperature=1.0,
        threshold=threshold,
        confusion=np.zeros((count, count), np.int64),
        words_right=0,
        trust=1.0,
        strength=None,
    )


def _distinct(pictures: Floats, labels: Indices) -> tuple[Floats, Indices]:
    """Every picture once, in order: a copy that teaches would give away the one held out."""
    first: dict[bytes, int] = {}
    for place, picture in enumerate(pictures):
        known = first.setdefault(picture.tobytes(), place)
        if labels[known] != labels[place]:
            raise DataError("one picture is under two labels", "keep it under one of them")

    places = list(first.values())
    return pictures[places], labels[places]


def _first_strength(label_count: int, trust: float) -> float:
    low, high = FIRST_STRENGTHS
    return low if trust < 1 else min(max(FIRST_PICTURES / label_count, low), high)


def _hold_out(images: Floats, labels: Indices, words: Words, trust: float) -> _HeldOut | None:
    """Teach without a part of the pictures and ask about that part, in turn; None where most labels
    have one picture, which would then be asked about a label that has none."""
    counts = np.bincount(labels, minlength=len(words.rows))
    if np.median(counts[counts > 0]) < 2:
        return None

    folds = _folds(labels)
    base = words(images)
    logits: dict[float | None, Floats] = {None: base}
    for strength in STRENGTHS:
        logits[strength] = np.empty_like(base)

    for fold in range(folds.max() + 1):
        asked = folds == fold
        lesson = Lesson(images[~asked], labels[~asked], words)
        for strength in STRENGTHS:
            correction = lesson.correction(trust * base[~asked], strength)
            answers = trust * base[asked] + lesson.features(images[asked]) @ correction
            logits[strength][asked] = answers
    return _HeldOut(labels, logits)


def _folds(labels: Indices) -> Indices:
    """The fold of each picture. Pictures of a label that follow one another stay together, since
    frames of one moment would answer for one another."""
    folds = np.empty(len(labels), np.intp)
    for label in np.unique(labels):
        places = np.flatnonzero(labels == label)
        parts = min(FOLDS, len(places))
        folds[places] = np.arange(len(places)) * parts // len(places)
    return folds


def _choose(held_out: _HeldOut) -> float | None:
    """The strongest prior that is as good as the best one, within a part of a standard error.

    That is the rule of Breiman et al. (1984) on the log loss. The answer is None, the words alone,
    where these are clearly right more often.
    """
    losses = {strength: held_out.losses(strength) for strength in STRENGTHS}
    best = min(STRENGTHS, key=lambda strength: losses[strength].mean())
    as_good = [
        strength for strength in STRENGTHS if not _above(losses[strength] - losses[best], AS_GOOD)
    ]

    chosen = max(as_good)
    lost = held_out.right(None).astype(float) - held_out.right(chosen)
    return None if _above(lost, CLEARLY_WORSE) else chosen


def _above(differences: Floats, errors: float) -> bool:
    """Whether the mean of paired differences lies more than so many standard errors above 0."""
    return bool(differences.mean() > errors * differences.std() / np.sqrt(len(differences)))


def fit(words: Words, images: Floats, labels: Indices, trust: float, strength: float) -> Taught:
    """The words and a correction as one row and one bias a label, not yet calibrated."""
    lesson = Lesson(images, labels, words)
    rows, biases = lesson.as_rows(lesson.correction(trust * words(images), strength))

    return replace(
        _from_words(words, 0.0),
        rows=(trust * words.rows + rows).astype(np.float32),
        biases=(trust * words.biases + biases).astype(np.float32),
        trust=trust,
        strength=strength,
    )


def _calibrated(
    taught: Taught, held_out: _HeldOut, threshold: float, background: NDArray[np.bool_]
) -> Taught:
    """With the temperature and the threshold that held-out answers ask for, and what these were."""
    logits = held_out.logits[taught.strength]
    sharpness = sharpness_of(logits, held_out.labels, spread=CALIBRATION_SPREAD)
    calibrated = replace(
        taught,
        rows=(sharpness * taught.rows).astype(np.float32),
        biases=(sharpness * taught.biases).astype(np.float32),
        temperature=1 / sharpness,
    )
    said = held_out.logits[None]
    return _judged(calibrated, sharpness * logits, said, held_out.labels, threshold, background)


def _judged(
    taught: Taught,
    logits: Floats,
    words: Floats,
    labels: Indices,
    threshold: float,
    background: NDArray[np.bool_],
) -> Taught:
    """With what held-out pictures make of it: ``logits`` are its own, ``words`` those of the words,
    both (pictures, labels)."""
    answers = logits.argmax(axis=1)
    confusion = np.zeros((logits.shape[1], logits.shape[1]), np.int64)
    np.add.at(confusion, (labels, answers), 1)

    return replace(
        taught,
        threshold=_threshold(softmax(logits), labels, threshold, background),
        confusion=confusion,
        words_right=int((words.argmax(axis=1) == labels).sum()),
    )


def _threshold(
    scores: Floats, labels: Indices, present: float, background: NDArray[np.bool_]
) -> float:
    """Where right answers that are on outnumber wrong ones by most, if that gains enough."""
    answers = scores.argmax(axis=1)
    best = scores.max(axis=1)
    gains = np.where(background[answers], 0, np.where(answers == labels, 1, -1))

    candidates = np.unique(np.floor(best * 100) / 100).tolist()
    totals = [int(gains[best >= candidate].sum()) for candidate in candidates]
    highest = max(totals)
    if highest - gains[best >= present].sum() <= MIN_GAIN * len(labels):
        return present

    equal = [c for c, total in zip(candidates, totals, strict=True) if total == highest]
    return float(min(equal, key=lambda candidate: (abs(candidate - present), candidate)))
