"""Pairs to judge by, each shown in a few fixed views."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_runtime.records import Modality
from tools.factory.data.augment import VIEW, apply_view, draw, geometry_of, whole_picture
from tools.factory.data.pictures import preprocessor, show
from tools.factory.data.samples import Sample
from tools.factory.edgevl.curation import Pair, Superset
from tools.factory.recipe import AugmentRecipe, Recipe
from tools.factory.teachers.teacher import Teacher

# Of each pair: the whole frame, its mirror image and two fixed crops; both halves share them.
VIEWS = 4


@dataclass(frozen=True)
class JudgedPairs:
    """Pairs to judge by, in VIEWS views each, whole frames first.

    rgb, other: (N * VIEWS, S, S, 3) uint8 RGB. target: (N * VIEWS, D) teacher embeddings of the
    colour views. sure: (N * VIEWS,) pairs whose pseudo-label curation would have kept.
    """

    name: str
    modality: str
    rgb: NDArray[np.uint8]
    other: NDArray[np.uint8]
    target: NDArray[np.float32]
    sure: NDArray[np.bool_]
    superset: Superset

    def __len__(self) -> int:
        """How many pairs there are."""
        return len(self.rgb) // VIEWS

    @property
    def whole(self) -> slice:
        """The rows of the whole frames."""
        return slice(0, len(self))

    def in_grey(self) -> JudgedPairs:
        """The same pairs with the colour picture, in grey, in the place of its partner."""
        grey = np.stack([cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY) for picture in self.rgb])
        return replace(self, other=np.repeat(grey[..., None], 3, axis=-1))


def judged_pairs(
    name: str, pairs: list[Pair], floor: float, start: Recipe, teacher: Teacher, superset: Superset
) -> JudgedPairs:
    """Show the pairs as the runtime would, then through the fixed views.

    floor: the least confidence of a sure pseudo-label.
    """
    side = start.input.size
    prepare = preprocessor(start.input, side)

    def shown(path: Path | None, modality: Modality) -> NDArray[np.uint8]:
        sample = Sample("", 0, path or Path(), 0, 0, (), "", True, modality)
        return show(sample, prepare)[0].copy()

    rgb = [shown(pair.file, "rgb") for pair in pairs]
    other = [shown(pair.partner, pair.modality) for pair in pairs]

    def in_views(half: list[NDArray[np.uint8]]) -> NDArray[np.uint8]:
        views = [
            apply_view(picture, _view(number, row), side)
            for number in range(VIEWS)
            for row, picture in enumerate(half)
        ]
        return np.stack(views)

    colour = in_views(rgb)
    sure = np.tile([pair.confidence >= floor for pair in pairs], VIEWS)
    target = teacher.image_embeddings(colour)
    return JudgedPairs(name, pairs[0].modality, colour, in_views(other), target, sure, superset)


def _view(number: int, row: int) -> np.void:
    """One of the fixed views of a pair; a crop depends on the pair's row."""
    if number == 0:
        return whole_picture()
    if number == 1:
        mirrored = np.array(whole_picture(), VIEW)
        mirrored["flip"] = True
        return mirrored[()]
    crop = draw((77, number, row), AugmentRecipe(scale=(0.5, 0.9)), 192, conditions=False)
    return geometry_of(crop)
