"""From scores to probabilities: a scale for a bundle, biases and thresholds for a label set.

Temperature: Guo et al. 2017, "On Calibration of Modern Neural Networks": one scale fitted by the
likelihood of labelled pictures. Biases: vector scaling of the same paper, with a penalty that keeps
them small.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tools.factory.evaluation import metrics

Floats = NDArray[np.float64]
PRECISION = 0.7  # the share of labels above a threshold that should be right


@dataclass(frozen=True)
class Task:
    """A zero-shot task: ``cosines`` (N, classes) of pictures and texts, ``truth`` (N,)."""

    name: str
    cosines: Floats
    truth: NDArray[np.int64]

    def error(self, scale: float) -> float:
        """Expected calibration error at a logit scale."""
        return metrics.calibration_error(metrics.probabilities(self.cosines, scale), self.truth)

    def loss(self, scale: float) -> float:
        """Mean negative log likelihood at a logit scale."""
        chosen = metrics.probabilities(self.cosines, scale)[np.arange(len(self.truth)), self.truth]
        return float(-np.log(np.maximum(chosen, 1e-12)).mean())


def fit_scale(tasks: Sequence[Task], low: float = 1.0, high: float = 1000.0) -> float:
    """The logit scale with the least mean loss over the tasks, to three digits.

    Each task counts the same, however many pictures it has.
    """
    scales = np.geomspace(low, high, 400)
    losses = [np.mean([task.loss(float(scale)) for task in tasks]) for scale in scales]
    return float(f"{scales[int(np.argmin(losses))]:.3g}")


def threshold_for(
    confidence: Floats, right: NDArray[np.bool_], precision: float, weights: Floats | None = None
) -> float:
    """The lowest threshold above which at least this share of answers is right.

    Where no threshold is good enough, the highest score. weights: what each answer counts.
    """
    order = np.argsort(-confidence)
    counts = np.ones(len(order)) if weights is None else weights[order]
    share = np.cumsum(counts * right[order]) / np.cumsum(counts)
    enough = np.flatnonzero(share >= precision)
    return float(confidence[order[enough[-1] if len(enough) else 0]])


def group_probabilities(logits: Floats, background: Floats) -> Floats:
    """softmax of (N, labels) with (N, prompts) of background beside them.

    Rows sum to less than 1: the share that background takes is cut off.
    """
    both = np.concatenate((logits, background), axis=1)
    exp = np.exp(both - both.max(axis=1, keepdims=True))
    return (exp / exp.sum(axis=1, keepdims=True))[:, : logits.shape[1]]


def background_bias(logits: Floats, strength: float) -> Floats:
    """(labels,): takes back a share of what each label scores above the others.

    The pictures show nothing particular, so what a label scores more than the others is bias.
    """
    usual = np.median(logits, axis=0)
    return strength * (usual.mean() - usual)


def fit_labelled(
    logits: Floats,
    background: Floats,
    truth: NDArray[np.int64],
    penalty: float = 0.1,
    steps: int = 400,
    weights: Floats | None = None,
) -> tuple[float, Floats]:
    """(temperature, biases (labels,)) of the least loss on labelled pictures.

    Vector scaling (Guo et al. 2017, section 4.2): softmax(logits / t + b). Gradient descent with
    momentum on log t and b; ``penalty`` weighs the squares of the biases. truth -1: none of the
    labels. weights: what each picture counts.
    """
    counts = np.ones(len(truth)) if weights is None else weights
    counts = counts / counts.sum()
    count = logits.shape[1]
    bias = np.zeros(count)
    log_t = 0.0
    speed = np.zeros(count + 1)

    everything = np.concatenate((logits, background), axis=1)
    target = np.zeros_like(everything)
    known = truth >= 0
    target[known, truth[known]] = 1

    for _ in range(steps):
        scaled = everything * np.exp(-log_t)
        shifted = scaled.copy()
        shifted[:, :count] += bias
        exp = np.exp(shifted - shifted.max(axis=1, keepdims=True))
        probability = exp / exp.sum(axis=1, keepdims=True)
        if background.shape[1]:
            # "None of them" may be any of the background prompts, in their own proportions.
            rest = probability[~known, count:]
            target[~known, count:] = rest / np.maximum(rest.sum(axis=1, keepdims=True), 1e-12)

        # The gradient of the cross-entropy of a softmax is (probability - target), by logit.
        error = (probability - target) * counts[:, None]
        gradient = np.append(
            error[:, :count].sum(axis=0) + penalty * bias / count, -(error * scaled).sum()
        )
        speed = 0.9 * speed - np.append(np.full(count, 2.0), 0.2) * gradient
        bias = bias + speed[:-1]
        log_t = float(np.clip(log_t + speed[-1], -3, 3))

    return float(np.exp(log_t)), bias


def balanced(names: Sequence[str]) -> Floats:
    """(pictures,): weights with which every label counts the same, however many pictures it has."""
    _, labels, counts = np.unique(np.array(names), return_inverse=True, return_counts=True)
    return np.asarray(1.0 / counts[labels])


def auroc(known: Floats, unknown: Floats) -> float:
    """Chance that a known picture scores above an unknown one; ties count half."""
    values = np.concatenate((known, unknown))[:, None]
    two_columns = np.concatenate((values, -values), axis=1)
    truth = np.concatenate((np.zeros(len(known)), np.ones(len(unknown)))).astype(int)
    return metrics.macro_auc(two_columns, truth)
