"""Rows that pictures taught: text as the prior, moved towards what an encoder shows.

    row(phrase) = unit(text(phrase) + step(name))

All phrases of a name move by one step. The steps of a group minimise, over its pictures x,

    sum of weight * -log p(what x shows)  +  STRENGTH * sum of |step|^2

where p is a softmax of scale * cosine over the names of the group, each standing for the mean of
its phrases. A picture that shows one of several names is right with any of them. A picture that
shows none of them must be won by RIVALS, names of the bank that nobody taught: they stand for the
other labels of a set, so that taught rows and rows of text stay comparable.

The idea of text as a prior is that of `edge_runtime/model/labels/correction.py`. Here the result
must be a row of length 1 without a bias, because it is used in any label set.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from tools.factory.bundling.lessons import Floats, Lesson

STRENGTH = 1.0
RIVALS = 300
RIVALS_OF_A_SET = 8  # so many other labels are as good as a set's
MAX_STEPS = 60

Rows = Callable[[Sequence[str]], NDArray[np.float32]]  # phrases -> their text rows


def taught_rows(
    lessons: Sequence[Lesson], text: Rows, rivals: Floats, scale: float, strength: float = STRENGTH
) -> dict[str, NDArray[np.float32]]:
    """Phrase -> unit row (dim,), of every phrase of every name that has pictures.

    Args:
        text: the rows without pictures.
        rivals: rows (rivals, dim) of names that nobody teaches.
        scale: the bundle's logit scale.
    """
    taught = {}
    for lesson in lessons:
        rows = {name: np.asarray(text(own), np.float64) for name, own in lesson.phrases.items()}
        centres = _unit(np.stack([own.mean(axis=0) for own in rows.values()]))
        steps = _steps(lesson, centres, rivals, scale, strength)
        pictured = lesson.shows[lesson.single].any(axis=0)
        for column, (name, own) in enumerate(rows.items()):
            if pictured[column]:
                moved = _unit(own + steps[column]).astype(np.float32)
                taught.update(zip(lesson.phrases[name], moved, strict=True))
    return taught


def rivals_of(exact: dict[str, NDArray[np.float32]], taught: set[str]) -> Floats:
    """Rows (RIVALS, dim) of names spread over the bank, without those that are taught."""
    names = [name for name in sorted(exact) if name not in taught]
    chosen = np.linspace(0, len(names) - 1, min(RIVALS, len(names))).round().astype(int)
    return np.stack([exact[names[place]] for place in chosen]).astype(np.float64)


def _steps(
    lesson: Lesson, centres: Floats, rivals: Floats, scale: float, strength: float
) -> Floats:
    """(names, dim): what is added to each name's rows."""
    pictures = torch.from_numpy(scale * lesson.pictures).float()
    shows = torch.from_numpy(lesson.shows)
    weights = torch.from_numpy(lesson.weights()).float()
    text = torch.from_numpy(centres).float()
    by_rivals = torch.logsumexp(pictures @ torch.from_numpy(rivals).float().T, dim=1)
    by_rivals = by_rivals + float(np.log(RIVALS_OF_A_SET / len(rivals)))
    # A picture of a name also shows other things, so the rivals are asked about the others only.
    none = shows[:, -1]
    by_rivals = torch.where(none, by_rivals, torch.full_like(by_rivals, -torch.inf))[:, None]

    steps = torch.zeros_like(text, requires_grad=True)
    optimiser = torch.optim.LBFGS([steps], max_iter=MAX_STEPS, line_search_fn="strong_wolfe")

    def loss() -> torch.Tensor:
        optimiser.zero_grad()
        rows = torch.nn.functional.normalize(text + steps, dim=1)
        logits = torch.cat([pictures @ rows.T, by_rivals], dim=1)
        right = torch.logsumexp(logits.masked_fill(~shows, -torch.inf), dim=1)
        losses = torch.logsumexp(logits, dim=1) - right
        total = (weights * losses).sum() + strength * (steps**2).sum()
        total.backward()
        return total

    optimiser.step(loss)
    return steps.detach().numpy().astype(np.float64)


def _unit(rows: Floats) -> Floats:
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True))
