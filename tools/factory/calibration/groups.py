"""Temperature, biases and thresholds of the groups of a label set."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from edge_runtime.errors import DataError
from edge_runtime.model.labels.compiled import CompiledLabels
from edge_runtime.model.labels.label_set import LabelSet
from tools.factory.calibration.fits import (
    PRECISION,
    Floats,
    auroc,
    background_bias,
    balanced,
    fit_labelled,
    group_probabilities,
    threshold_for,
)
from tools.factory.evaluation import metrics

STRENGTH = 0.25  # of the bias from unlabelled pictures; chosen on held-out training pictures
FEWEST_WINS = 8  # labelled pictures a label must win before it gets a threshold of its own


@dataclass(frozen=True)
class Calibration:
    """What was learned of one group: temperature, biases and thresholds by label, one line."""

    temperature: float
    biases: dict[str, float]
    thresholds: dict[str, float]
    summary: str


def group_logits(
    labels: CompiledLabels, group: str, pictures: NDArray[np.float32]
) -> tuple[Floats, Floats]:
    """(logits (N, labels of the group), background logits (N, prompts)), without biases.

    They are what the runtime would score. Raises DataError for a group that the set does not have.
    """
    for (name, at), scale in zip(labels.groups, labels.scales, strict=True):
        if name == group:
            logits = (scale * (pictures @ labels.matrix.T)).astype(np.float64)
            return logits[:, at], logits[:, len(labels.names) :]

    names = ", ".join(name for name, _ in labels.groups)
    raise DataError(f"calibration: the label set has no group '{group}'", f"it has {names}")


def unlabelled_biases(labels: CompiledLabels, pictures: NDArray[np.float32]) -> dict[str, float]:
    """Label -> bias, from what each label scores above its group on the camera's usual pictures."""
    biases = {}
    for group, at in labels.groups:
        logits, _ = group_logits(labels, group, pictures)
        own = background_bias(logits, STRENGTH).round(3).tolist()
        biases.update(zip(labels.names[at], own, strict=True))
    return biases


def fit_group(
    labels: CompiledLabels,
    group: str,
    pictures: NDArray[np.float32],
    names: Sequence[str],
    least: float,
) -> Calibration:
    """Fit one group on pictures of its labels and of ``none``.

    The summary is measured on a half that the first fit did not see; then all pictures are fitted.
    No threshold falls below ``least``, the bundle's: where all pictures are easy, any win would
    count. Raises DataError when the pictures show fewer than two of its labels.
    """
    logits, background = group_logits(labels, group, pictures)
    own = list(labels.names[dict(labels.groups)[group]])
    if len(set(names) & set(own)) < 2:
        raise DataError(
            f"group '{group}': pictures of two of its labels are needed, these show {set(names)}"
        )
    truth = np.array([own.index(name) if name in own else -1 for name in names])

    # Half-way to the same for every label: few pictures of one are little known, but also rare.
    weights = np.sqrt(balanced(names))
    half = np.arange(len(truth)) % 2 == 0
    before = group_probabilities(logits, background)
    _, _, after = _fit(logits, background, truth, weights * half)
    verdict = _compare(before[~half], after[~half], truth[~half])

    temperature, bias, after = _fit(logits, background, truth, weights)
    thresholds = {}
    for row, label in enumerate(own):
        won = after.argmax(axis=1) == row
        if (truth == row).any() and won.sum() >= FEWEST_WINS:
            enough = threshold_for(after[won, row], truth[won] == row, PRECISION, weights[won])
            thresholds[label] = round(float(np.clip(enough, least, 0.95)), 3)

    biases = dict(zip(own, bias.round(3).tolist(), strict=True))
    summary = f"{len(truth)} pictures, temperature {temperature:.2f}; {verdict}"
    return Calibration(temperature, biases, thresholds, summary)


def _fit(
    logits: Floats, background: Floats, truth: NDArray[np.int64], weights: Floats
) -> tuple[float, Floats, Floats]:
    """(temperature, biases, probabilities of all pictures), fitted on those that count."""
    part = weights > 0
    temperature, bias = fit_labelled(
        logits[part], background[part], truth[part], weights=weights[part]
    )

    # A label without pictures never wins here; its own fit would push it away from the others.
    pictured = np.unique(truth[truth >= 0])
    unseen = np.setdiff1d(np.arange(logits.shape[1]), pictured)
    bias[unseen] = bias[pictured].mean()

    scaled = logits / temperature + bias
    return temperature, bias, group_probabilities(scaled, background / temperature)


def _compare(before: Floats, after: Floats, truth: NDArray[np.int64]) -> str:
    known = truth >= 0
    errors = [metrics.calibration_error(rows[known], truth[known]) for rows in (before, after)]
    right = [float((rows[known].argmax(1) == truth[known]).mean()) for rows in (before, after)]
    text = f"right {right[0]:.0%} -> {right[1]:.0%}"
    text += f", calibration error {errors[0]:.3f} -> {errors[1]:.3f}"

    if (~known).any():
        best = [rows.max(axis=1) for rows in (before, after)]
        apart = [auroc(values[known], values[~known]) for values in best]
        text += f", known against none AUROC {apart[0]:.2f} -> {apart[1]:.2f}"
    return text + " on the half held back"


def with_biases(label_set: LabelSet, biases: dict[str, float]) -> LabelSet:
    """The set with biases for the labels named."""
    labels = [replace(label, bias=biases.get(label.name, label.bias)) for label in label_set.labels]
    return replace(label_set, labels=tuple(labels))


def with_groups(label_set: LabelSet, groups: dict[str, Calibration]) -> LabelSet:
    """The set with what was learned of its groups.

    A group without pictures stays as it is, and so does a threshold for which none was learned.
    """
    labels = []
    for label in label_set.labels:
        learned = groups.get(label.group)
        if learned:
            threshold = learned.thresholds.get(label.name, label.threshold)
            # A background label has no threshold: it never is on.
            own = None if label.background else threshold
            label = replace(label, bias=learned.biases[label.name], threshold=own)
        labels.append(label)

    temperatures = {name: round(own.temperature, 3) for name, own in groups.items()}
    return replace(
        label_set, labels=tuple(labels), temperatures=label_set.temperatures | temperatures
    )
