"""The batch of any step: which pictures, which views of them, and which targets.

Everything random is keyed by (seed, epoch, position), so a batch depends on its step alone. That is
what lets a run resume to the same bits, with any number of threads.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge_runtime.errors import DataError
from tools.factory.data import conditions
from tools.factory.data.augment import VIEW, stack_views
from tools.factory.data.views import draw_view
from tools.factory.recipe import Recipe
from tools.factory.training.materials import Materials
from tools.factory.training.plan import Plan


@dataclass(frozen=True)
class Batch:
    """The inputs and targets of one step.

    Attributes:
        pixels: (B, size, size, 3) uint8 RGB, or None where there is a stem.
        stem: (B, C, h, w) int8 activations of the frozen layers.
        target: (B, D), unit norm.
        text, condition: (B,) rows of texts and conditions, -1 for none.
        posterior: (B, K) where the teacher is a classifier.
    """

    pixels: NDArray[np.uint8] | None
    stem: NDArray[np.int8] | None
    target: NDArray[np.float32]
    text: NDArray[np.int64]
    condition: NDArray[np.int64]
    posterior: NDArray[np.float32] | None


class Batches:
    """Batch of any step, for one process of `world`; nothing is remembered between calls."""

    def __init__(self, materials: Materials, rank: int = 0, world: int = 1) -> None:
        self.materials = materials
        self.rank = rank
        self.world = world
        recipe = materials.recipe
        samples = materials.cache.samples
        source_weights = [recipe.data[sample.source].weight for sample in samples]
        held_out = [sample.held_out for sample in samples]
        weights = np.where(held_out, 0.0, source_weights)
        if not weights.any():
            raise DataError(
                "no picture is left to train on", "lower 'validation' or raise 'weight' of a source"
            )
        self._ends = np.cumsum(weights)
        self.length = max(1, round(self._ends[-1]))
        self.steps_per_epoch = max(1, self.length // (recipe.train.batch * world))
        self._order: tuple[int, NDArray[np.int64]] | None = None

    def order(self, epoch: int) -> NDArray[np.int64]:
        """Rows of one epoch: each picture as often as its source's weight says, shuffled.

        Systematic sampling: on a line, each picture covers a stretch as long as its weight, and
        `length` points at equal distances, shifted by one random number, pick the pictures.
        """
        recipe = self.materials.recipe
        rng = np.random.default_rng((recipe.seed, 2, epoch, *_other_seed(recipe)))
        points = (np.arange(self.length) + rng.random()) * (self._ends[-1] / self.length)
        rows = np.minimum(np.searchsorted(self._ends, points, side="right"), len(self._ends) - 1)
        return rng.permutation(rows)

    def batch(self, step: int, size: int, *, stem: bool = False) -> Batch:
        """The batch of a step, at an input size, or as activations of the frozen layers."""
        epoch, within = divmod(step, self.steps_per_epoch)
        recipe = self.materials.recipe
        share = recipe.train.batch
        start = (within * self.world + self.rank) * share
        order = self._cached_order(epoch)
        positions = np.arange(start, start + share) % len(order)
        rows = order[positions]

        views = np.zeros(share, VIEW)
        planes = np.zeros(share, np.int64)
        for slot, (row, position) in enumerate(zip(rows, positions, strict=True)):
            key = (recipe.seed, 3, epoch, int(position), *_other_seed(recipe))
            views[slot], planes[slot] = self._view(int(row), key, size, stem=stem)
        return self._assemble(rows, views, planes, size, stem=stem)

    def _cached_order(self, epoch: int) -> NDArray[np.int64]:
        """The order, computed once for an epoch.

        Threads share it without a lock: two may compute it, but none sees half of it.
        """
        order = self._order
        if order is None or order[0] != epoch:
            order = (epoch, self.order(epoch))
            self._order = order
        return order[1]

    def _view(
        self, row: int, key: tuple[int, ...], size: int, *, stem: bool
    ) -> tuple[np.void, int]:
        """(view of a picture, plane of its target). A stored view is replayed, at least in part."""
        recipe = self.materials.recipe
        stored = self.materials.targets.views
        if stored is None:
            return draw_view(key, recipe, self.materials.cache, row, size), 0

        plane = int(np.random.default_rng((*key, 4)).integers(len(stored)))
        if stem or recipe.targets.teacher_sees == "all":
            return stored[plane, row], plane
        # The target belongs to this crop, so the student must see it too. Colours may be new.
        view = np.array(draw_view(key, recipe, self.materials.cache, row, size), VIEW)
        view["box"] = stored[plane, row]["box"]
        view["flip"] = stored[plane, row]["flip"]
        return view[()], plane

    def _assemble(
        self,
        rows: NDArray[np.int64],
        views: NDArray[np.void],
        planes: NDArray[np.int64],
        size: int,
        *,
        stem: bool,
    ) -> Batch:
        materials = self.materials
        targets = materials.targets
        pixels = None if stem else stack_views(materials.cache.pictures, rows, views, size)
        stems = materials.stems.values[planes, rows] if stem and materials.stems else None

        condition = np.array(
            [
                int(view["condition"]) or known_condition(materials, int(row))
                for row, view in zip(rows, views, strict=True)
            ],
            np.int64,
        )
        target = targets.embeddings[planes, rows].astype(np.float32)
        self._mix_in_conditions(target, views["condition"] > 0, condition)

        posterior = None
        if targets.posterior is not None:
            posterior = targets.posterior[planes, rows].astype(np.float32)
        text = materials.texts.of_sample[rows]
        return Batch(pixels, stems, target, text, condition, posterior)

    def _mix_in_conditions(
        self,
        target: NDArray[np.float32],
        drawn: NDArray[np.bool_],
        condition: NDArray[np.int64],
    ) -> None:
        """Where a condition was drawn, mix its text into the target, in place.

        The target of a teacher that did not see the condition says nothing about it. A teacher that
        "sees all" has seen it.
        """
        targets = self.materials.recipe.targets
        mix = targets.condition_mix
        if targets.teacher_sees == "all" or not mix or not drawn.any():
            return
        texts = self.materials.texts.conditions
        target[drawn] = (1 - mix) * target[drawn] + mix * texts[condition[drawn]]
        target[drawn] /= np.linalg.norm(target[drawn], axis=1, keepdims=True)


def known_condition(materials: Materials, row: int) -> int:
    """Row of the condition that a picture shows without any synthetic one.

    It is the picture's own; "clear" where its source allows synthetic conditions; else -1.
    """
    sample = materials.cache.samples[row]
    if sample.condition:
        return conditions.NAMES.index(sample.condition)
    return 0 if materials.recipe.data[sample.source].conditions else -1


def prefetch(batches: Batches, steps: range, plan: Plan, workers: int) -> Iterator[Batch]:
    """Batches of consecutive steps, made by `workers` threads ahead of their use."""
    waiting: list[Future[Batch]] = []
    with ThreadPoolExecutor(workers) as pool:
        try:
            for step in steps:
                stem = plan.from_stem(step)
                waiting.append(pool.submit(batches.batch, step, plan.sizes[step], stem=stem))
                if len(waiting) > workers:
                    yield waiting.pop(0).result()
            while waiting:
                yield waiting.pop(0).result()
        finally:
            for future in waiting:
                future.cancel()


def _other_seed(recipe: Recipe) -> tuple[int, ...]:
    """`train.seed`, unless it is 0: recipes from before it was there still give the same bits."""
    return (recipe.train.seed,) if recipe.train.seed else ()
