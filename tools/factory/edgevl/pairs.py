"""Pairs to judge by, each shown in a few fixed views."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from tools.factory.data.augment import VIEW, apply_view, draw, geometry_of, whole_picture
from tools.factory.data.pictures import preprocessor, show
from tools.factory.data.samples import Sample
from tools.factory.edgevl.curation import Pair, Superset
from tools.factory.recipe import AugmentRecipe, Recipe
from tools.factory.teachers.teacher import Teacher

# of each test pair: the whole frame, its mirror image and two fixed crops; both halves share them
VIEWS = 4


@dataclass(frozen=True)
class TestSet:
    """Pairs to judge by, as VIEWS views each: pictures (N * VIEWS, S, S, 3) uint8 RGB, whole frames
    first.

    target: (N * VIEWS, D) teacher embeddings of the colour views; sure: (N * VIEWS,) pairs whose
    pseudo-label curation would have kept.
    """

    name: str
    modality: str
    rgb: NDArray[np.uint8]
    other: NDArray[np.uint8]
    target: NDArray[np.float32]
    sure: NDArray[np.bool_]
    superset: Superset

    @property
    def whole(self) -> slice:
        """The rows of the whole frames."""
        return slice(0, len(self.rgb) // VIEWS)


def test_set(
    name: str, pairs: list[Pair], floor: float, start: Recipe, teacher: Teacher, superset: Superset
) -> TestSet:
    """Show the pairs as the runtime would, then through the fixed views. floor: least confidence
    that is sure."""
    side = start.input.size
    prepare_one = preprocessor(start.input, side)

    def shown(path: Path | None, modality: str) -> NDArray[np.uint8]:
        sample = Sample("", 0, path or Path(), 0, 0, (), "", True, modality)  # type: ignore[arg-type]
        return show(sample, prepare_one)[0].copy()

    rgb = [shown(p.file, "rgb") for p in pairs]
    other = [shown(p.partner, p.modality) for p in pairs]
    views = [_test_view(number, row) for number in range(VIEWS) for row in range(len(pairs))]

    def through(half: list[NDArray[np.uint8]]) -> NDArray[np.uint8]:
        return np.stack(
            [apply_view(half[i % len(pairs)], view, side) for i, view in enumerate(views)]
        )

    colour = through(rgb)
    sure = np.tile([p.confidence >= floor for p in pairs], VIEWS)
    target = teacher.image_embeddings(colour)
    return TestSet(name, pairs[0].modality, colour, through(other), target, sure, superset)


def _test_view(number: int, row: int) -> np.void:
    if number == 0:
        return whole_picture()
    if number == 1:
        view = np.array(whole_picture(), VIEW)
        view["flip"] = True
        return view[()]
    drawn = draw((77, number, row), AugmentRecipe(scale=(0.5, 0.9)), 192, conditions=False)
    return geometry_of(drawn)


def in_grey(pictures: NDArray[np.uint8]) -> NDArray[np.uint8]:
    grey = np.stack([cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY) for picture in pictures])
    return np.repeat(grey[..., None], 3, axis=-1)
