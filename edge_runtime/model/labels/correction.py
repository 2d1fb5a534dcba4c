"""The fit of taught labels: what `teaching` chooses from.

A multinomial logistic regression whose prior is the words:

    logits(x) = w * (scale * rows @ x + biases) + scale * D @ (x - mean) + b

``D`` and ``b`` minimise the sum of the pictures' log losses plus
``strength / 2 * (|D|^2 + |b / (scale * c)|^2)``, where every taught label has the same weight in
all and ``c`` is `BIAS_FEATURE`. The idea of a ridge towards the zero-shot weights is that of CLAP
(Silva-Rodriguez et al., CVPR 2024); here one strength serves all labels. An endless strength gives
the words. Many pictures outweigh any strength and give a linear probe.

Nothing here chooses a strength or holds a picture out.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Floats: TypeAlias = NDArray[np.float64]
Indices: TypeAlias = NDArray[np.intp]

BIAS_FEATURE = 0.3  # the constant beside the embedding; its square is how freely a bias moves
MAX_STEPS = 100
PRECISE = 1e-3  # logits; the fit ends when a step changes none by more

_SHARPNESSES = np.geomspace(0.05, 4.0, 67)


@dataclass(frozen=True, slots=True)
class Words:
    """Text rows (labels, dim), biases (labels,) and logit scale as the label set has them."""

    rows: Floats
    biases: Floats
    scale: float

    def __call__(self, pictures: Floats) -> Floats:
        return self.scale * pictures @ self.rows.T + self.biases


class Lesson:
    """Pictures (pictures, dim) ready to be fitted: one decomposition serves every strength."""

    def __init__(self, images: Floats, labels: Indices, words: Words) -> None:
        label_count = len(words.rows)
        counts = np.bincount(labels, minlength=label_count)
        # A label has the say of an ordinary one: many pictures of one do not raise all others.
        weights = np.median(counts[counts > 0]) / counts[labels]

        self._mean = images.mean(axis=0)
        self._scale = words.scale
        self.weights = weights[:, None]
        self._taught = np.flatnonzero(counts)
        self._truth = np.eye(label_count)[labels][:, self._taught]

        # A correction lies in the span of the pictures; along these axes its curvature is diagonal.
        features = self.features(images)
        _, lengths, axes = np.linalg.svd(np.sqrt(self.weights) * features, full_matrices=False)
        used = lengths > 1e-6 * lengths[0]
        self._axes = axes[used].T
        self._curvature = lengths[used] ** 2
        self._features = features @ self._axes

    def features(self, images: Floats) -> Floats:
        """(pictures, dim + 1): what a correction multiplies, the bias last."""
        constant = np.full((len(images), 1), BIAS_FEATURE)
        return self._scale * np.hstack([images - self._mean, constant])

    def correction(self, base: Floats, strength: float) -> Floats:
        """The correction, (dim + 1, labels), of the words' logits ``base`` (pictures, labels).

        Labels without pictures have none. Pictures of the others say nothing about them, so the
        others compete with each other only, and all together stay as likely as the words say.
        """
        known = base[:, self._taught]
        inner = self._minimiser(known, strength)
        correction = np.zeros((len(self._axes), base.shape[1]))
        correction[:, self._taught] = self._axes @ inner

        if known.shape[1] < base.shape[1]:
            gain = log_total(known + self._features @ inner) - log_total(known)
            mean = np.average(gain, weights=self.weights[:, 0])
            correction[-1, self._taught] -= mean / (self._scale * BIAS_FEATURE)
        return correction

    def as_rows(self, correction: Floats) -> tuple[Floats, Floats]:
        """What a correction adds to the words: rows (labels, dim) and biases (labels,).

        One column of a correction, (dim + 1,), gives one row and one bias.
        """
        rows = correction[:-1].T
        return rows, self._scale * (BIAS_FEATURE * correction[-1] - rows @ self._mean)

    def _minimiser(self, base: Floats, strength: float) -> Floats:
        """The best correction along the axes, (axes, taught labels).

        Accelerated gradient steps with restarts (O'Donoghue and Candes, 2015), conditioned by the
        upper bound of the softmax's curvature, one half (Boehning, 1992): no step size is tuned.
        """
        bound = (0.5 * self._curvature + strength)[:, None]
        here = np.zeros((len(self._curvature), base.shape[1]))
        ahead = here
        momentum = 1.0

        for _ in range(MAX_STEPS):
            errors = self.weights * (softmax(base + self._features @ ahead) - self._truth)
            step = (self._features.T @ errors + strength * ahead) / bound
            there = ahead - step

            if (step * (there - here)).sum() > 0:
                momentum = 1.0
            faster = (1 + np.sqrt(1 + 4 * momentum**2)) / 2
            ahead = there + (momentum - 1) / faster * (there - here)
            here = there
            momentum = faster

            if np.abs(self._features @ step).max() < PRECISE:
                break
        return here


def sharpness_of(logits: Floats, labels: Indices, spread: float | None = None) -> float:
    """The factor of the logits that makes the labels most likely: the inverse of a temperature.

    ``spread`` is the standard deviation of its logarithm, around 0, before anything was seen; None
    for a flat prior.
    """
    costs = np.array([log_losses(factor * logits, labels).sum() for factor in _SHARPNESSES])
    if spread is not None:
        costs += 0.5 * (np.log(_SHARPNESSES) / spread) ** 2
    return float(_SHARPNESSES[costs.argmin()])


def log_losses(logits: Floats, labels: Indices) -> Floats:
    """(pictures,): minus the logarithm of what the label's probability is."""
    own = logits[np.arange(len(labels)), labels]
    return np.asarray(log_total(logits) - own)


def log_total(logits: Floats) -> Floats:
    """(pictures,): the logarithm of the sum of the odds."""
    highest = logits.max(axis=1)
    return np.asarray(highest + np.log(np.exp(logits - highest[:, None]).sum(axis=1)))


def softmax(logits: Floats) -> Floats:
    """Probabilities of logits (pictures, labels), each row by itself."""
    odds = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(odds / odds.sum(axis=1, keepdims=True))
