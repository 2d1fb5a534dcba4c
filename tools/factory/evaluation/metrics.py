"""Scores of a zero-shot classifier, from cosines and true classes alone."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

BINS = 15


def top_k(cosines: NDArray[np.float32], truth: NDArray[np.int64], k: int) -> float:
    """Share of rows (N, classes) whose true class (N,) is among the k highest."""
    k = min(k, cosines.shape[1])
    highest = np.argpartition(-cosines, k - 1, axis=1)[:, :k]
    return float((highest == truth[:, None]).any(1).mean())


def macro_auc(cosines: NDArray[np.float32], truth: NDArray[np.int64]) -> float:
    """Mean over classes of the one-vs-rest ROC-AUC of the raw cosine; ties count half (Mann-Whitney
    U)."""
    areas = []
    for number in np.unique(truth):
        _, inverse, counts = np.unique(cosines[:, number], return_inverse=True, return_counts=True)
        ranks = (np.cumsum(counts) - (counts - 1) / 2)[inverse]
        positive = truth == number
        p = int(positive.sum())
        n = int((~positive).sum())
        if p and n:
            areas.append((ranks[positive].sum() - p * (p + 1) / 2) / (p * n))
    return float(np.mean(areas))


def probabilities(cosines: NDArray[np.float32], logit_scale: float) -> NDArray[np.float64]:
    """softmax(logit_scale * cosine) by row, as the runtime scores a group without background."""
    logits = logit_scale * cosines.astype(np.float64)
    exp = np.exp(logits - logits.max(1, keepdims=True))
    return exp / exp.sum(1, keepdims=True)


def reliability(
    probability: NDArray[np.float64], truth: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.int64]]:
    """(mean confidence, accuracy, count) of the winner in BINS equal confidence bins; NaN where a
    bin is empty."""
    confidence = probability.max(1)
    right = probability.argmax(1) == truth
    which = np.minimum((confidence * BINS).astype(int), BINS - 1)
    count = np.bincount(which, minlength=BINS)
    with np.errstate(invalid="ignore"):
        return (
            np.bincount(which, confidence, BINS) / count,
            np.bincount(which, right, BINS) / count,
            count,
        )


def calibration_error(probability: NDArray[np.float64], truth: NDArray[np.int64]) -> float:
    """Expected calibration error (Guo et al. 2017): |accuracy - confidence|, averaged over the
    winners' bins."""
    confidence, accuracy, count = reliability(probability, truth)
    filled = count > 0
    return float((np.abs(confidence - accuracy)[filled] * count[filled]).sum() / count.sum())


def confusion(cosines: NDArray[np.float32], truth: NDArray[np.int64]) -> NDArray[np.float64]:
    """(classes, classes): row = true class, column = winner, rows sum to 1."""
    classes = cosines.shape[1]
    table = np.zeros((classes, classes))
    np.add.at(table, (truth, cosines.argmax(1)), 1)
    return table / np.maximum(table.sum(1, keepdims=True), 1)
