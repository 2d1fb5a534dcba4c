"""The row of 'none of these': what the pictures of a camera show that no label means.

It is fitted after the labels and against all of them together, so that its pictures change no
answer among the labels. In one fit they would judge the words of the labels, and weaken them:
docs/decisions/022-teaching-labels.md has the figures.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from edge_runtime.model.labels.correction import Floats, Lesson, Words, log_total

STRENGTH = 100.0  # of the prior, which is the row of the words

# None must be so much likelier than all labels together: a lost label costs more than a strange
# picture that gets one.
MARGIN = float(np.log(4))

# Where only none has pictures, the words stand for those of the labels. They are a poor likeness,
# so the pictures may say more, and the margin is wider.
ALONE_STRENGTH = 3.0
ALONE_MARGIN = float(np.log(100))


def none_row(text_rows: NDArray[np.floating], background: NDArray[np.floating]) -> Floats:
    """The row (dim,) that 'none of these' starts from.

    It is the mean of the background prompts' rows, or of the labels' rows where a set has none.
    """
    rows = background if len(background) else text_rows
    mean = np.asarray(rows, np.float64).mean(axis=0)
    return np.asarray(mean / np.linalg.norm(mean))


def fit_none(
    words: Words,
    images: Floats,
    own: NDArray[np.bool_],
    logits: Floats,
    none: int,
    strength: float = STRENGTH,
    margin: float = MARGIN,
) -> tuple[Floats, float]:
    """The row (dim,) and the bias of 'none of these', which is row ``none`` of the words.

    ``own`` (pictures,) says which pictures show a label; ``logits`` (pictures, labels) are those of
    the taught labels. The regression is that of `Lesson` with two classes: 'any label', whose logit
    is the logarithm of the sum of the labels' odds, and 'none'.
    """
    lesson = Lesson(images, (~own).astype(np.intp), replace(words, rows=words.rows[:2]))
    base = np.column_stack([log_total(logits), words(images)[:, none]])
    both = lesson.correction(base, strength)
    row, bias = lesson.as_rows(both[:, 1] - both[:, 0])
    return words.rows[none] + row, float(words.biases[none] + bias - margin)


def fit_none_alone(
    words: Words, pictures: Floats, mean_text: NDArray[np.floating]
) -> tuple[Floats, float]:
    """The row (dim,) and the bias of 'none of these', the last row of the words, where no label has
    pictures (pictures, dim).

    In the place of pictures, the labels show what their words say of one: a text row less the mean
    of all texts, ``mean_text`` (dim,). Pictures lie around 0, and texts around that mean.
    """
    shown = words.rows[:-1] - mean_text
    shown /= np.maximum(np.linalg.norm(shown, axis=1, keepdims=True), 1e-6)
    images = np.vstack([shown, pictures])
    own = np.arange(len(images)) < len(shown)
    logits = words(images)[:, :-1]
    return fit_none(words, images, own, logits, len(shown), ALONE_STRENGTH, ALONE_MARGIN)
