"""Pictures to calibrate on, through the runtime's own preprocessing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from edge_runtime.errors import DataError
from edge_runtime.model.manifest import InputSpec
from edge_runtime.model.preprocess import Preprocessor
from tools.factory.data.augment import apply_view, draw
from tools.factory.data.pictures import decode
from tools.factory.data.samples import Sample
from tools.factory.int8.export import INPUT
from tools.factory.recipe import Recipe


def pictures_for(
    recipe: Recipe, samples: Sequence[Sample], count: int, seed: int
) -> Iterator[NDArray[np.uint8]]:
    """Up to `count` pictures through the runtime's preprocessing, each (1, S, S, 3) uint8.

    One in three is shown under a synthetic condition, where its source allows that: ranges must
    also hold at night and in fog. Raises DataError when no picture can be read.
    """
    side = recipe.input.size
    prepare = Preprocessor(InputSpec(INPUT, "NHWC", (side, side), recipe.input.resize, ("rgb",)))
    # The 6 separates these draws from all others that start with the recipe's seed.
    rng = np.random.default_rng((recipe.seed, 6, seed))
    order = rng.permutation(len(samples))
    readable = 0
    for row in tqdm(order, total=count, desc="pictures", unit="pic", leave=False):
        sample = samples[row]
        try:
            batch = prepare(decode(sample.read())).copy()
        except (OSError, ValueError):
            # tools.distill has listed the pictures that cannot be read.
            continue

        if recipe.data[sample.source].conditions and rng.random() < 1 / 3:
            view = draw((recipe.seed, 6, seed, int(row)), recipe.augment, side, conditions=True)
            batch[0] = apply_view(batch[0], view, side)
        yield batch
        readable += 1
        if readable == count:
            return
    if not readable:
        raise DataError("no readable picture to calibrate on", "check --data")
