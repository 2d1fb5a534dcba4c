"""Which view of a picture is shown: random draws that its source and modality allow.

Both halves of a pair share crop and flip."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edge_runtime.errors import DataError
from tools.factory.data.augment import VIEW, draw, monochrome, whole_picture
from tools.factory.data.pictures import PictureCache
from tools.factory.recipe import Recipe


def draw_views(recipe: Recipe, cache: PictureCache) -> NDArray[np.void]:
    """The views for which the teacher's targets are computed: (views, N) records of VIEW.

    A held-out picture is always seen whole, so that validation compares like with like.
    """
    views = np.zeros((recipe.targets.views, len(cache.samples)), VIEW)
    for plane in range(recipe.targets.views):
        for row, sample in enumerate(cache.samples):
            if sample.held_out:
                views[plane, row] = whole_picture()
            else:
                key = (recipe.seed, 1, plane, row)
                views[plane, row] = draw_view(key, recipe, cache, row, recipe.input.size)

    # Both halves of a pair show the same part of the scene: their targets are the same.
    for row, partner in partners(cache).items():
        views["box"][:, row] = views["box"][:, partner]
        views["flip"][:, row] = views["flip"][:, partner]
    return views


def draw_view(
    key: tuple[int, ...], recipe: Recipe, cache: PictureCache, row: int, size: int
) -> np.void:
    """Draw one view of a picture, as its source and modality allow."""
    view = draw(key, recipe.augment, size, conditions=may_get_condition(recipe, cache, row))
    modality = cache.samples[row].modality
    if modality == "rgb":
        return view

    # A generator of its own: `draw` must give the same numbers for every modality.
    turned = np.random.default_rng((*key, 7)).random() < recipe.augment.negative_probability
    return monochrome(view, negative=modality == "ir" and bool(turned))


def partners(cache: PictureCache) -> dict[int, int]:
    """Row of every infrared or depth picture -> row of its colour partner.

    Raises DataError where the partner cannot be read.
    """
    row_of = {sample.key: i for i, sample in enumerate(cache.samples)}
    paired = {i: sample for i, sample in enumerate(cache.samples) if sample.partner}
    for sample in paired.values():
        if sample.partner not in row_of:
            raise DataError(
                f"{sample.partner}: cannot be read, but {sample.key} needs it",
                "repair the file, or remove the pair from the list",
            )
    return {i: row_of[sample.partner] for i, sample in paired.items()}


def may_get_condition(recipe: Recipe, cache: PictureCache, row: int) -> bool:
    """Whether a synthetic condition may be laid over this picture: its source allows it, and the
    picture shows none yet."""
    sample = cache.samples[row]
    allowed = recipe.data[sample.source].conditions
    return allowed and not sample.condition and sample.modality == "rgb"
