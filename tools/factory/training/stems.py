"""Activations of the frozen layers, stored on disk.

On two cores, a step that starts from them takes a third of the time. The early layers work on the
largest maps, and so take most of it. When they are frozen, their output for a stored view never
changes, so it is computed once and stored as int8 with one scale for each channel.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from edge_runtime.errors import ConfigError
from edge_runtime.system.files import write_atomically
from tools.factory.data.arrays import write_array
from tools.factory.data.augment import stack_views
from tools.factory.data.pictures import PictureCache
from tools.factory.recipe import Recipe
from tools.factory.students.student import Student
from tools.factory.training.frozen import FrozenLayers, frozen_layers

CHUNK = 128
SAMPLE = 256  # pictures that the scales are measured on
SAVED_EVERY = 32  # chunks; an interrupted pass loses no more


@dataclass(frozen=True)
class Stems:
    """Stored activations: activation = (value + offset) * scale.

    Attributes:
        values: (views, N, C, h, w) int8; (views, N, C, 1, 1) float16, with a scale of 1, where all
            layers are frozen.
        scale: (C,) float32.
        offset: what brings int8 back to the uint8 of an int8 graph.
    """

    values: NDArray[np.int8] | NDArray[np.float16]
    scale: NDArray[np.float32]
    offset: int = 0

    def restore(
        self, values: NDArray[np.int8] | NDArray[np.float16], device: torch.device
    ) -> Tensor:
        """(B, C, h, w) int8 -> the same as float32 activations in channels-last memory."""
        scale = torch.from_numpy(self.scale).to(device)
        stem = torch.from_numpy(values).to(device).float().add_(self.offset) * scale[:, None, None]
        return stem.contiguous(memory_format=torch.channels_last)


def cache_stems(
    student: Student,
    recipe: Recipe,
    cache: PictureCache,
    views: NDArray[np.void] | None,
    folder: Path,
    device: torch.device,
    *,
    quiet: bool,
) -> Stems:
    """Run every stored view of every training picture through the frozen layers.

    An interrupted pass continues. Raises ConfigError where the recipe stores no views or freezes no
    layer.
    """
    if views is None or not recipe.student.frozen:
        raise ConfigError("targets.stem: needs targets.views above 0 and student.frozen above 0")
    layers = frozen_layers(student, recipe, device)
    digest = recipe.without_labels().digest("input", "targets", "data", "augment", "seed")
    pooled = student.backbone.all_frozen
    stem_pass = _StemPass(
        layers,
        cache,
        views,
        recipe.stem_size,
        folder / f"stems-{layers.digest}-{digest}-{cache.digest}.{'f16' if pooled else 'i8'}",
        pooled=pooled,
    )
    return stem_pass.run(quiet=quiet)


@dataclass(frozen=True)
class _StemPass:
    """One pass of all views through the frozen layers, and the files it fills.

    `path` has the activations, PATH.scale.npy their scales, PATH.done how many chunks are finished.
    pooled: these are the features of a whole backbone. They are few numbers, so they are stored as
        float16, without a scale.
    """

    layers: FrozenLayers
    cache: PictureCache
    views: NDArray[np.void]
    size: int
    path: Path
    pooled: bool

    def run(self, *, quiet: bool) -> Stems:
        """Compute what is missing."""
        training = [row for row, s in enumerate(self.cache.samples) if not s.held_out]
        rows = np.array(training, np.int64)
        scale = self._scale(rows)
        done_path = self.path.with_suffix(".done")
        done = int(done_path.read_text()) if done_path.exists() and self.path.exists() else 0

        values = self._open(rows, new=not done)
        work = list(itertools.product(range(len(self.views)), range(0, len(rows), CHUNK)))
        bar = tqdm(range(done, len(work)), desc="frozen layers", unit="chunk", disable=quiet)
        for number in bar:
            plane, start = work[number]
            chosen = rows[start : start + CHUNK]
            activations = self._look(plane, chosen)
            if not self.pooled:
                levels = np.rint(activations / scale[:, None, None])
                activations = np.clip(levels, -127, 127)
            values[plane, chosen] = activations
            if (number + 1) % SAVED_EVERY == 0 or number == len(work) - 1:
                values.flush()
                write_atomically(done_path, str(number + 1).encode())
        return Stems(values, scale)

    def _look(self, plane: int, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        views = self.views[plane, rows]
        return self.layers(stack_views(self.cache.pictures, rows, views, self.size))

    def _open(self, rows: NDArray[np.int64], *, new: bool) -> np.memmap[Any, Any]:
        """(views, N, C, h, w); the shape of an activation is known after the first one only."""
        shape = (len(self.views), len(self.cache.samples), *self._look(0, rows[:1]).shape[1:])
        kind = np.float16 if self.pooled else np.int8
        return np.memmap(self.path, kind, "w+" if new else "r+", shape=shape)

    def _scale(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """(C,): the step of each channel, measured once; 1 for features."""
        if self.pooled:
            return np.ones(self._look(0, rows[:1]).shape[1], np.float32)
        path = self.path.with_suffix(".scale.npy")
        if not path.exists():
            spread = rows[np.linspace(0, len(rows) - 1, min(SAMPLE, len(rows))).astype(int)]
            write_array(path, _channel_scale(self._look(0, spread)))
        scale: NDArray[np.float32] = np.load(path, allow_pickle=False)
        return scale


def _channel_scale(activations: NDArray[np.float32]) -> NDArray[np.float32]:
    """(C,): the step of int8 for each channel of (N, C, h, w).

    The largest 2 in 10,000 activations are clipped: a rare peak would make all other steps coarse.
    """
    largest = np.quantile(np.abs(activations), 0.9998, axis=(0, 2, 3))
    return np.maximum(largest / 127, 1e-8).astype(np.float32)
