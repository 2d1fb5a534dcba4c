"""Scores on held-out pictures of the training sources."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tools.factory.data.augment import VIEW, draw, stack_views, whole_picture
from tools.factory.data.pictures import PictureCache
from tools.factory.data.views import may_get_condition
from tools.factory.recipe import Recipe
from tools.factory.students.student import Student, to_pixels
from tools.factory.training.materials import Materials

BATCH = 64
SMALL = 32  # pixels that every picture is scaled down to first, for scores of small pictures


@torch.no_grad()
def embed_pictures(
    model: Callable[[Tensor], Tensor],
    cache: PictureCache,
    rows: NDArray[np.int64],
    views: NDArray[np.void],
    size: int,
    device: torch.device,
) -> NDArray[np.float32]:
    """Embeddings (len(rows), D) of views of cached pictures.

    The model takes RGB values (B, 3, size, size).
    """
    parts = []
    for start in range(0, len(rows), BATCH):
        part = slice(start, start + BATCH)
        pixels = stack_views(cache.pictures, rows[part], views[part], size)
        parts.append(model(to_pixels(pixels, device)).float().cpu().numpy())
    return np.concatenate(parts)


@torch.no_grad()
def embed_views(
    model: Student,
    materials: Materials,
    rows: NDArray[np.int64],
    views: NDArray[np.void],
    device: torch.device,
) -> NDArray[np.float32]:
    """Embeddings (len(rows), D) of views; from stored features where only the head is trained."""
    size = materials.recipe.input.size
    if materials.features is None:
        return embed_pictures(model, materials.cache, rows, views, size, device)
    features = torch.from_numpy(materials.features(rows, views, size)).to(device)
    return model(features, len(model.backbone.layers)).cpu().numpy()


def score_held_out(
    model: Student, materials: Materials, rows: NDArray[np.int64], device: torch.device
) -> dict[str, float | dict[str, float]]:
    """Scores on held-out pictures of the training sources.

    cosine: mean to the teacher's target.
    top1: by source, among that source's own texts; mean_top1: its mean over the sources.
    small_top1: the same mean, with every picture scaled down to `SMALL` pixels first.
    conditions: share of synthetic conditions (fixed draws) that are recognised.
    """
    cache = materials.cache

    def embed(rows: NDArray[np.int64], views: NDArray[np.void]) -> NDArray[np.float32]:
        return embed_views(model, materials, rows, views, device)

    whole = np.full(len(rows), whole_picture(), VIEW)
    embeddings = embed(rows, whole)
    target = materials.targets.embeddings[0, rows].astype(np.float32)
    cosine = float((embeddings * target).sum(1).mean())
    report: dict[str, float | dict[str, float]] = {"cosine": round(cosine, 4)}

    top1 = _top1_by_source(embeddings, materials, rows)
    if top1:
        small = whole.copy()
        small["small"] = SMALL
        shrunk = _top1_by_source(embed(rows, small), materials, rows)
        report["top1"] = top1
        report["mean_top1"] = round(float(np.mean(list(top1.values()))), 4)
        report["small_top1"] = round(float(np.mean(list(shrunk.values()))), 4)

    allowed = [row for row in rows if may_get_condition(materials.recipe, cache, int(row))]
    if allowed and materials.recipe.augment.conditions:
        chosen = np.array(allowed, np.int64)
        views = _views_with_conditions(materials.recipe, chosen)
        guess = (embed(chosen, views) @ materials.texts.conditions.T).argmax(1)
        report["conditions"] = round(float((guess == views["condition"]).mean()), 4)
    return report


def _views_with_conditions(recipe: Recipe, rows: NDArray[np.int64]) -> NDArray[np.void]:
    """A fixed draw for each picture, with a condition laid over every one of them."""
    always = replace(recipe.augment, conditions=1.0, small_probability=0.0)
    size = recipe.input.size
    views = [draw((recipe.seed, 5, int(row)), always, size, conditions=True) for row in rows]
    return np.array(views, VIEW)


def _top1_by_source(
    embeddings: NDArray[np.float32], materials: Materials, rows: NDArray[np.int64]
) -> dict[str, float]:
    right = right_by_source(embeddings, materials, rows)
    return {name: round(float(of_source.mean()), 4) for name, of_source in right.items()}


def right_by_source(
    embeddings: NDArray[np.float32], materials: Materials, rows: NDArray[np.int64]
) -> dict[str, NDArray[np.bool_]]:
    """By source, which labelled pictures of `rows` are nearest to their own text.

    A text competes with those of its own source, or of its group where it is the only one.
    """
    texts = materials.texts
    source_of = np.array([sample.source for sample in materials.cache.samples])
    text_of = texts.of_sample
    right = {}
    for number, source in enumerate(materials.recipe.data):
        labelled = (source_of == number) & (text_of >= 0)
        vocabulary = np.unique(text_of[labelled])
        if len(vocabulary) == 1:
            vocabulary = np.flatnonzero(texts.groups == texts.groups[vocabulary[0]])
        own = labelled[rows]
        if len(vocabulary) > 1 and own.any():
            guess = vocabulary[(embeddings[own] @ texts.rows[vocabulary].T).argmax(1)]
            right[source.name] = guess == text_of[rows[own]]
    return right
