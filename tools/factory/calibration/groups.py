"""Temperature, biases and thresholds of the groups of a label set."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from edge_runtime.errors import DataError
from edge_runtime.model.labels import CompiledLabels, LabelSet
from tools.factory.calibration.bundle import PRECISION
from tools.factory.calibration.fits import (
    auroc,
    background_bias,
    fit_labelled,
    group_probabilities,
    threshold_for,
)
from tools.factory.evaluation import metrics

STRENGTH = 0.25  # of the bias from unlabelled pictures; chosen on held-out training pictures
FEWEST_WINS = 8  # labelled pictures a label must win before it gets a threshold of its own


def group_logits(
    labels: CompiledLabels, group: str, pictures: NDArray[np.float32]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(logits (N, labels of the group), background logits (N, prompts)) as the runtime scores them,
    without biases.

    Raises DataError for a group that the set does not have.
    """
    for (name, at), scale in zip(labels.groups, labels.scales, strict=True):
        if name == group:
            logits = (scale * (pictures @ labels.matrix.T)).astype(np.float64)
            return logits[:, at], logits[:, len(labels.names) :]
    raise DataError(
        f"calibration: the label set has no group '{group}'; it has {', '.join(n for n, _ in labels.groups)}"
    )


def unlabelled_biases(labels: CompiledLabels, pictures: NDArray[np.float32]) -> dict[str, float]:
    """Label -> bias, from what each label scores above the others of its group on the camera's
    usual pictures."""
    biases = {}
    for group, at in labels.groups:
        logits, _ = group_logits(labels, group, pictures)
        biases.update(
            zip(labels.names[at], background_bias(logits, STRENGTH).round(3).tolist(), strict=True)
        )
    return biases


@dataclass(frozen=True)
class Calibration:
    """What was learned of one group: its temperature, biases and thresholds by label, and a line
    that tells."""

    temperature: float
    biases: dict[str, float]
    thresholds: dict[str, float]
    told: str


def fit_group(
    labels: CompiledLabels,
    group: str,
    pictures: NDArray[np.float32],
    names: Sequence[str],
    least: float,
) -> Calibration:
    """Fit one group on pictures of its labels and of ``none``; what it tells is measured on the
    half held back.

    No threshold falls below ``least``, the bundle's: pictures that are all easy would let any win
    count. Raises DataError when the pictures show fewer than two of its labels.
    """
    logits, background = group_logits(labels, group, pictures)
    own = list(labels.names[dict(labels.groups)[group]])
    if len(set(names) & set(own)) < 2:
        raise DataError(
            f"group '{group}': pictures of two of its labels are needed, these show {set(names)}"
        )
    truth = np.array([own.index(name) if name in own else -1 for name in names])
    told = []
    fit = np.arange(len(truth)) % 2 == 0
    before = group_probabilities(logits, background)
    for part in (
        fit,
        np.ones(len(truth), bool),
    ):  # first to judge it on the other half, then for good
        temperature, bias = fit_labelled(logits[part], background[part], truth[part])
        shown_labels = np.unique(truth[truth >= 0])
        unseen = np.setdiff1d(np.arange(len(own)), shown_labels)
        bias[unseen] = bias[
            shown_labels
        ].mean()  # a label without pictures is not pushed away by the others
        after = group_probabilities(logits / temperature + bias, background / temperature)
        if part is fit:
            told.append(_compare(before[~fit], after[~fit], truth[~fit]))
    thresholds = {}
    for i, label in enumerate(own):
        won = after.argmax(axis=1) == i
        if (truth == i).any() and won.sum() >= FEWEST_WINS:
            enough = threshold_for(after[won, i], truth[won] == i, PRECISION)
            thresholds[label] = round(float(np.clip(enough, least, 0.95)), 3)
    biases = dict(zip(own, bias.round(3).tolist(), strict=True))
    told.insert(0, f"{len(truth)} pictures, temperature {temperature:.2f}")
    return Calibration(temperature, biases, thresholds, "; ".join(told))


def _compare(
    before: NDArray[np.float64], after: NDArray[np.float64], truth: NDArray[np.int64]
) -> str:
    known = truth >= 0
    errors = [metrics.calibration_error(p[known], truth[known]) for p in (before, after)]
    right = [float((p[known].argmax(1) == truth[known]).mean()) for p in (before, after)]
    text = f"right {right[0]:.0%} -> {right[1]:.0%}, calibration error {errors[0]:.3f} -> {errors[1]:.3f}"
    if (~known).any():
        apart = [auroc(p[known].max(axis=1), p[~known].max(axis=1)) for p in (before, after)]
        text += f", known against none AUROC {apart[0]:.2f} -> {apart[1]:.2f}"
    return text + " on the half held back"


def with_biases(label_set: LabelSet, biases: dict[str, float]) -> LabelSet:
    """The set with biases for the labels named."""
    labels = (replace(label, bias=biases.get(label.name, label.bias)) for label in label_set.labels)
    return replace(label_set, labels=tuple(labels))


def with_groups(label_set: LabelSet, groups: dict[str, Calibration]) -> LabelSet:
    """The set with what was learned of its groups; a group without pictures, and a threshold
    without one, stay."""
    labels = []
    for label in label_set.labels:
        learned = groups.get(label.group)
        if learned:
            threshold = (
                None if label.background else learned.thresholds.get(label.name, label.threshold)
            )
            label = replace(label, bias=learned.biases[label.name], threshold=threshold)
        labels.append(label)
    temperatures = {name: round(own.temperature, 3) for name, own in groups.items()}
    return replace(
        label_set, labels=tuple(labels), temperatures=label_set.temperatures | temperatures
    )
