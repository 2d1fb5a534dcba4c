"""Pictures to calibrate on, through the runtime's own preprocessing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from edge_runtime.errors import DataError
from edge_runtime.model.bundle import InputSpec
from edge_runtime.model.preprocess import Preprocessor
from tools.factory.data.augment import apply_view, draw
from tools.factory.data.pictures import decode
from tools.factory.data.samples import Sample
from tools.factory.int8.export import INPUT
from tools.factory.recipe import Recipe


def pictures_for(
    recipe: Recipe, samples: Sequence[Sample], count: int, seed: int
) -> Iterator[NDArray[np.uint8]]:
    """`count` pictures through the runtime's preprocessing; one in three under a synthetic
    condition it may get."""
    side = recipe.input.size
    prepare = Preprocessor(InputSpec(INPUT, "NHWC", (side, side), recipe.input.resize, ("rgb",)))
    rng = np.random.default_rng((recipe.seed, 6, seed))
    found = 0
    for i in tqdm(
        rng.permutation(len(samples)), total=count, desc="pictures", unit="pic", leave=False
    ):
        try:
            batch = prepare(decode(samples[i].read())).copy()
        except (OSError, ValueError):
            continue  # listed by distill
        if recipe.data[samples[i].source].conditions and rng.random() < 1 / 3:
            view = draw((recipe.seed, 6, seed, int(i)), recipe.augment, side, conditions=True)
            batch[0] = apply_view(batch[0], view, side)
        yield batch
        found += 1
        if found == count:
            return
    if not found:
        raise DataError("no readable picture to calibrate on", "check --data")
