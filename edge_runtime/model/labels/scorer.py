"""From the embedding of a frame to a score, a margin and a vote for every label.

Runs once a frame. Votes over time are not taken here: ``consensus.py`` does that.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge_runtime.model.labels.compiled import CompiledLabels
from edge_runtime.records import LabelScore


@dataclass(frozen=True, slots=True)
class Scores:
    """The scores of one frame, in the order of ``CompiledLabels.names``.

    Attributes:
        scores: Shape (labels,); softmax probabilities inside the label's group.
        margins: Shape (labels,); score minus the score of the best competitor in the group.
        votes: Shape (labels,); the labels that this frame alone would switch on.
    """

    scores: NDArray[np.float64]
    margins: NDArray[np.float64]
    votes: NDArray[np.bool_]


class Scorer:
    """Embedding -> scores: softmax of ``logit_scale * cosine + bias`` over group and background.

    All groups are computed at once, as segments of one array. With 37 labels in 6 groups that takes
    45 microseconds; a loop over the groups took 220. Each segment is a group followed by its
    rivals: the background prompts, and "none of these" where pictures taught it.
    """

    def __init__(self, labels: CompiledLabels, top_k: int = 10) -> None:
        self.labels = labels
        self._top_k = top_k
        self._reported = np.flatnonzero(~labels.background)

        # One entry a place in the segments: its row of the matrix, and its group.
        segments = [
            np.append(np.arange(rows.start, rows.stop), rivals.rows).astype(np.intp)
            for (_, rows), rivals in zip(labels.groups, labels.rivals, strict=True)
        ]
        self._rows = np.concatenate(segments)
        self._group = np.repeat(np.arange(len(segments)), [len(rows) for rows in segments])

        # reduceat misreads an empty segment. None is empty, since a group has at least one label.
        self._starts = np.searchsorted(self._group, np.arange(len(segments)))

        # Places that are labels, and not rivals of them.
        is_label = self._rows < len(labels.names)
        self._labels = np.flatnonzero(is_label)

        is_rival = ~is_label
        self._scales = np.array(labels.scales)[self._group]
        self._scales[is_rival] = np.concatenate([rivals.scales for rivals in labels.rivals])
        self._biases = np.zeros(len(self._rows))
        self._biases[is_label] = labels.biases
        self._biases[is_rival] = np.concatenate([rivals.biases for rivals in labels.rivals])

    def __call__(self, embedding: NDArray[np.float32]) -> Scores | None:
        """Scores of one embedding, float32 (dim,); None where it holds NaN or infinity."""
        cosines = self.labels.matrix @ embedding

        # One NaN or infinity anywhere makes the sum one: cheaper than a look at every value.
        if not math.isfinite(cosines.sum()):
            return None

        scores, margins = self._softmax(cosines)
        votes = (margins > 0) & (scores >= self.labels.thresholds) & ~self.labels.background
        return Scores(scores, margins, votes)

    def ranked(self, scores: Scores, on: NDArray[np.bool_]) -> tuple[LabelScore, ...]:
        """The best ``top_k`` labels and every label that is on, highest score first.

        ``on``, bool (labels,), is what is finally switched on: the votes, or what consensus makes
        of them. Background labels are left out.
        """
        order = self._reported[np.argsort(-scores.scores[self._reported], kind="stable")]
        rest = order[self._top_k :]
        rows = np.concatenate((order[: self._top_k], rest[on[rest]]))

        return tuple(
            LabelScore(self.labels.names[row], round(score, 4), round(margin, 4), is_on)
            for row, score, margin, is_on in zip(
                rows.tolist(),
                scores.scores[rows].tolist(),
                scores.margins[rows].tolist(),
                on[rows].tolist(),
                strict=True,
            )
        )

    def _softmax(
        self, cosines: NDArray[np.float32]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Scores and margins, both (labels,), from cosines (labels + background prompts,)."""
        group = self._group
        starts = self._starts
        logits = cosines[self._rows] * self._scales + self._biases

        # The best of each group is subtracted first. No exponent is above 0 then, so none
        # overflows, and the odds of the best are exactly 1.
        odds = np.exp(logits - np.maximum.reduceat(logits, starts)[group])
        total = np.add.reduceat(odds, starts)[group]

        # The rival of every label is the best of its group, except for the best itself: its rival
        # is the second best. Where two share the first place, the second best is as good as the
        # best, so both margins are 0 and neither is on.
        best = odds == 1
        second = np.maximum.reduceat(np.where(best, 0.0, odds), starts)
        ties = np.add.reduceat(best, starts, dtype=np.intp) > 1
        second[ties] = 1
        rival = np.where(best, second[group], 1.0)

        # Background prompts have competed; nobody asks for their scores.
        scores = (odds / total)[self._labels]
        margins = ((odds - rival) / total)[self._labels]
        return scores, margins
