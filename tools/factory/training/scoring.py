"""Scores on held-out pictures of the training sources."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from tools.factory.data.augment import VIEW, draw, stack_views, whole_picture
from tools.factory.data.pictures import PictureCache
from tools.factory.data.views import may_get_condition
from tools.factory.students.student import to_pixels
from tools.factory.training.materials import Materials


@torch.no_grad()
def embed_pictures(
    model: Callable[[Tensor], Tensor],
    cache: PictureCache,
    rows: NDArray[np.int64],
    views: NDArray[np.void],
    size: int,
    device: torch.device,
) -> NDArray[np.float32]:
    """What `model` makes of RGB values (B, 3, size, size), for the given views of cached pictures:
    (len(rows), D)."""
    parts = []
    for start in range(0, len(rows), 64):
        part = slice(start, start + 64)
        pixels = stack_views(cache.pictures, rows[part], views[part], size)
        parts.append(model(to_pixels(pixels, device)).float().cpu().numpy())
    return np.concatenate(parts)


def score_held_out(
    model: nn.Module, m: Materials, rows: NDArray[np.int64], device: torch.device
) -> dict[str, float | dict[str, float]]:
    """Scores on held-out pictures of the training sources.

    cosine: mean to the teacher's target. top1: per source, among that source's own texts; mean_top1
    over sources; small_top1: the same mean with every picture scaled down to 32 pixels first.
    conditions: share of synthetic conditions (fixed draws) told apart.
    """
    whole, small = (np.full(len(rows), whole_picture(), VIEW) for _ in range(2))
    small["small"] = 32

    def embed(rows: NDArray[np.int64], views: NDArray[np.void]) -> NDArray[np.float32]:
        return embed_pictures(model, m.cache, rows, views, m.recipe.input.size, device)

    found = embed(rows, whole)
    target = m.targets.embeddings[0, rows].astype(np.float32)
    report: dict[str, float | dict[str, float]] = {
        "cosine": round(float((found * target).sum(1).mean()), 4)
    }
    top1 = _top1_by_source(found, m, rows)
    if top1:
        report["top1"] = top1
        report["mean_top1"] = round(float(np.mean(list(top1.values()))), 4)
        shrunk = _top1_by_source(embed(rows, small), m, rows)
        report["small_top1"] = round(float(np.mean(list(shrunk.values()))), 4)
    allowed = [i for i in rows if may_get_condition(m.recipe, m.cache, int(i))]
    if allowed and m.recipe.augment.conditions:
        chosen = np.array(allowed, np.int64)
        sure = replace(m.recipe.augment, conditions=1.0, small_probability=0.0)
        drawn = [
            draw((m.recipe.seed, 5, int(i)), sure, m.recipe.input.size, conditions=True)
            for i in chosen
        ]
        views = np.array(drawn, VIEW)
        guess = (embed(chosen, views) @ m.texts.conditions.T).argmax(1)
        report["conditions"] = round(float((guess == views["condition"]).mean()), 4)
    return report


def _top1_by_source(
    found: NDArray[np.float32], m: Materials, rows: NDArray[np.int64]
) -> dict[str, float]:
    top1: dict[str, float] = {}
    source_of = np.array([m.cache.samples[i].source for i in rows])
    everyone = np.array([sample.source for sample in m.cache.samples])
    for number, source in enumerate(m.recipe.data):
        of_source = m.texts.of_sample[everyone == number]
        vocabulary = np.unique(of_source[of_source >= 0])
        mine = (source_of == number) & (m.texts.of_sample[rows] >= 0)
        if len(vocabulary) > 1 and mine.any():
            guess = vocabulary[(found[mine] @ m.texts.rows[vocabulary].T).argmax(1)]
            top1[source.name] = round(float((guess == m.texts.of_sample[rows[mine]]).mean()), 4)
    return top1
