"""The labels of a frame by group, as the page shows them: the best of each, and what they lack.

A record has the best labels of all groups together, so a group may be missing from it, and the page
would jump with every frame. Here each group has its place.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from edge_runtime.model.labels.scorer import Scorer, Scores
from edge_runtime.records import LabelledFrame

BEST = 3  # labels of a group, and those that are on
MAX_GROUPS = 40


def scores_of(labelled: LabelledFrame, scorer: Scorer) -> Scores | None:
    """The scores of all labels; None where the frame has none, or was scored with other labels."""
    if labelled.embedding is None or labelled.record.labels_id != scorer.labels.id:
        return None
    return scorer(labelled.embedding)


def shown_groups(labelled: LabelledFrame, scorer: Scorer) -> list[dict[str, Any]]:
    """Name and labels of the first `MAX_GROUPS` groups, as plain JSON types.

    Each label has its name, score, margin, threshold, and whether it is on. The list is empty where
    the frame was not scored, or was scored with other labels.
    """
    scores = scores_of(labelled, scorer)
    if scores is None:
        return []

    labels = scorer.labels
    on = {label.name for label in labelled.record.labels if label.on}
    groups = []
    for name, places in labels.groups[:MAX_GROUPS]:
        rows = np.arange(places.start, places.stop)[~labels.background[places]]
        ranked = rows[np.argsort(-scores.scores[rows], kind="stable")].tolist()
        shown = ranked[:BEST] + [row for row in ranked[BEST:] if labels.names[row] in on]
        members = [
            {
                "name": labels.names[row],
                "score": round(float(scores.scores[row]), 4),
                "margin": round(float(scores.margins[row]), 4),
                "threshold": round(float(labels.thresholds[row]), 4),
                "on": labels.names[row] in on,
            }
            for row in shown
        ]
        groups.append({"name": name, "labels": members})
    return groups
