"""The batch of any step: which pictures, which views of them, and what they are to match.

Everything random is keyed by (seed, epoch, position), so a batch depends on its step alone."""

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
from tools.factory.training.materials import Materials
from tools.factory.training.plan import Plan


@dataclass(frozen=True)
class Batch:
    """pixels (B, size, size, 3) uint8 RGB, or stem (B, C, h, w) int8; target (B, D); text and
    condition rows (B,), -1 for none; posterior (B, K) where the teacher is a classifier."""

    pixels: NDArray[np.uint8] | None
    stem: NDArray[np.int8] | None
    target: NDArray[np.float32]
    text: NDArray[np.int64]
    condition: NDArray[np.int64]
    posterior: NDArray[np.float32] | None


class Batches:
    """Batch of any step, for one process of `world`; nothing is remembered between calls."""

    def __init__(self, materials: Materials, rank: int = 0, world: int = 1) -> None:
        self.m = materials
        self.rank = rank
        self.world = world
        cache = materials.cache
        recipe = materials.recipe
        weights = np.array(
            [0.0 if s.held_out else recipe.data[s.source].weight for s in cache.samples]
        )
        if not weights.any():
            raise DataError(
                "no picture is left to train on; lower 'validation' or raise 'weight' of a source"
            )
        self._ends = np.cumsum(weights)
        self.length = max(1, round(self._ends[-1]))
        self.steps_per_epoch = max(1, self.length // (recipe.train.batch * world))

    def order(self, epoch: int) -> NDArray[np.int64]:
        """Rows of one epoch: each picture as often as its source's weight says, shuffled."""
        rng = np.random.default_rng((self.m.recipe.seed, 2, epoch))
        points = (np.arange(self.length) + rng.random()) * (self._ends[-1] / self.length)
        rows = np.minimum(np.searchsorted(self._ends, points, side="right"), len(self._ends) - 1)
        return rng.permutation(rows)

    def batch(self, step: int, size: int, *, stem: bool = False) -> Batch:
        """The batch of a step, at an input size, or as activations of the frozen layers."""
        recipe = self.m.recipe
        epoch, within = divmod(step, self.steps_per_epoch)
        share = recipe.train.batch
        start = (within * self.world + self.rank) * share
        order = self._cached_order(epoch)
        positions = np.arange(start, start + share) % len(order)
        rows = order[positions]
        views = np.zeros(share, VIEW)
        planes = np.zeros(share, np.int64)
        for i, (row, position) in enumerate(zip(rows, positions, strict=True)):
            views[i], planes[i] = self._view(int(row), epoch, int(position), size, stem=stem)
        return self._assemble(rows, views, planes, size, stem=stem)

    def _cached_order(self, epoch: int) -> NDArray[np.int64]:
        held = getattr(self, "_order", None)
        if held is None or held[0] != epoch:
            held = self._order = (epoch, self.order(epoch))
        return held[1]

    def _view(
        self, row: int, epoch: int, position: int, size: int, *, stem: bool
    ) -> tuple[np.void, int]:
        recipe = self.m.recipe
        stored = self.m.targets.views
        key = (recipe.seed, 3, epoch, position)
        plane = 0
        if stored is not None:
            plane = int(np.random.default_rng((*key, 4)).integers(len(stored)))
            if stem or recipe.targets.teacher_sees == "all":
                return stored[plane, row], plane
        view = draw_view(key, recipe, self.m.cache, row, size)
        if stored is not None:  # the teacher saw this crop; colours may be fresh
            fresh = np.array(view, VIEW)
            fresh["box"] = stored[plane, row]["box"]
            fresh["flip"] = stored[plane, row]["flip"]
            view = fresh[()]
        return view, plane

    def _assemble(
        self,
        rows: NDArray[np.int64],
        views: NDArray[np.void],
        planes: NDArray[np.int64],
        size: int,
        *,
        stem: bool,
    ) -> Batch:
        m = self.m
        pixels = None if stem else stack_views(m.cache.pictures, rows, views, size)
        stems = m.stems.values[planes, rows] if stem and m.stems else None
        target = m.targets.embeddings[planes, rows].astype(np.float32)
        condition = np.empty(len(rows), np.int64)
        for i, row in enumerate(rows):
            shown = int(views[i]["condition"])
            condition[i] = shown or known_condition(m, int(row))
        mix = 0.0 if m.recipe.targets.teacher_sees == "all" else m.recipe.targets.condition_mix
        mixed = views["condition"] > 0
        if mix and mixed.any():
            target[mixed] = (1 - mix) * target[mixed] + mix * m.texts.conditions[condition[mixed]]
            target[mixed] /= np.linalg.norm(target[mixed], axis=1, keepdims=True)
        shares = m.targets.posterior
        posterior = None if shares is None else shares[planes, rows].astype(np.float32)
        return Batch(pixels, stems, target, m.texts.of_sample[rows], condition, posterior)


def known_condition(m: Materials, row: int) -> int:
    """Row of the condition a picture shows by itself: its own, "clear" where its source promises
    it, else -1."""
    sample = m.cache.samples[row]
    if sample.condition:
        return conditions.NAMES.index(sample.condition)
    return 0 if m.recipe.data[sample.source].conditions else -1


def prefetch(batches: Batches, steps: range, plan: Plan, workers: int) -> Iterator[Batch]:
    """Batches of consecutive steps, made by `workers` threads ahead of their use."""
    with ThreadPoolExecutor(workers) as pool:
        waiting: list[Future[Batch]] = []
        try:
            for step in steps:
                waiting.append(
                    pool.submit(batches.batch, step, plan.sizes[step], stem=plan.from_stem(step))
                )
                if len(waiting) > workers:
                    yield waiting.pop(0).result()
            while waiting:
                yield waiting.pop(0).result()
        finally:
            for future in waiting:
                future.cancel()
