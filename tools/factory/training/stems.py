"""Activations of the frozen layers, stored on disk.

On two cores, a step that starts from them takes a third of the time. The early layers work on the
largest maps, and so take most of it. When they are frozen, their output for a stored view never
changes, so it is computed once and stored as int8 with one scale for each channel.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from pathlib import Path

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
from tools.factory.students.student import Student, to_pixels

CHUNK = 128
SAMPLE = 256  # pictures that the scales are measured on
SAVED_EVERY = 32  # chunks; an interrupted pass loses no more


@dataclass(frozen=True)
class Stems:
    """Stored activations: activation = (value + offset) * scale.

    Attributes:
        values: (views, N, C, h, w) int8.
        scale: (C,) float32.
        offset: what brings int8 back to the uint8 of an int8 graph.
    """

    values: NDArray[np.int8]
    scale: NDArray[np.float32]
    offset: int = 0

    def restore(self, values: NDArray[np.int8], device: torch.device) -> Tensor:
        """(B, C, h, w) int8 -> the same as float32 activations in channels-last memory."""
        scale = torch.from_numpy(self.scale).to(device)
        stem = torch.from_numpy(values).to(device).float().add_(self.offset) * scale[:, None, None]
        return stem.contiguous(memory_format=torch.channels_last)


@torch.no_grad()
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
    student = student.to(device, memory_format=torch.channels_last).eval()
    size = recipe.stem_size
    training = [row for row, sample in enumerate(cache.samples) if not sample.held_out]
    rows = np.array(training, np.int64)

    def run(plane: int, chosen: NDArray[np.int64]) -> NDArray[np.float32]:
        pixels = stack_views(cache.pictures, chosen, views[plane, chosen], size)
        return student.stem(to_pixels(pixels, device)).float().cpu().numpy()

    digest = recipe.digest("student", "input", "targets", "data", "augment", "seed")
    path = folder / f"stems-{digest}-{cache.digest}.i8"
    scale_path = path.with_suffix(".scale.npy")
    if not scale_path.exists():
        spread = np.linspace(0, len(rows) - 1, min(SAMPLE, len(rows))).astype(int)
        write_array(scale_path, _channel_scale(run(0, rows[spread])))
    scale = np.load(scale_path, allow_pickle=False)

    channels = student.stem(torch.zeros(1, 3, size, size, device=device)).shape[1:]
    shape = (len(views), len(cache.samples), *channels)
    done_path = path.with_suffix(".done")
    done = int(done_path.read_text()) if done_path.exists() and path.exists() else 0
    values = np.memmap(path, np.int8, "r+" if done else "w+", shape=shape)
    work = list(itertools.product(range(len(views)), range(0, len(rows), CHUNK)))
    for number in tqdm(range(done, len(work)), desc="frozen layers", unit="chunk", disable=quiet):
        plane, start = work[number]
        chosen = rows[start : start + CHUNK]
        levels = np.rint(run(plane, chosen) / scale[:, None, None])
        values[plane, chosen] = np.clip(levels, -127, 127)
        if (number + 1) % SAVED_EVERY == 0 or number == len(work) - 1:
            values.flush()
            write_atomically(done_path, str(number + 1).encode())
    return Stems(values, scale)


def _channel_scale(activations: NDArray[np.float32]) -> NDArray[np.float32]:
    """(C,): the step of int8 for each channel of (N, C, h, w).

    The largest 2 in 10,000 activations are clipped: a rare peak would make all other steps coarse.
    """
    largest = np.quantile(np.abs(activations), 0.9998, axis=(0, 2, 3))
    return np.maximum(largest / 127, 1e-8).astype(np.float32)
