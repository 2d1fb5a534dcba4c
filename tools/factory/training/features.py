"""Features of views that are scored again and again while only the head is trained.

The backbone is frozen then, so the features of a view never change. A short training of a head
takes less time than one pass of the held-out pictures through the backbone.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tools.factory.data.arrays import write_array
from tools.factory.data.augment import stack_views
from tools.factory.data.pictures import PictureCache
from tools.factory.training.frozen import FrozenLayers

BATCH = 64


@dataclass(frozen=True)
class FeatureCache:
    """Features (N, C, 1, 1) float32 of views of pictures, in one file for each set of views.

    layers: the whole backbone.
    """

    layers: FrozenLayers
    pictures: PictureCache
    folder: Path

    def __call__(
        self, rows: NDArray[np.int64], views: NDArray[np.void], size: int
    ) -> NDArray[np.float32]:
        """Features of these views of the cached pictures, computed once."""
        digest = hashlib.sha256(rows.tobytes() + views.tobytes() + str(size).encode())
        owner = f"{self.layers.digest}-{self.pictures.digest}"
        path = self.folder / f"features-{owner}-{digest.hexdigest()[:12]}.npy"
        if not path.exists():
            parts = []
            for start in range(0, len(rows), BATCH):
                part = slice(start, start + BATCH)
                shown = stack_views(self.pictures.pictures, rows[part], views[part], size)
                parts.append(self.layers(shown))
            write_array(path, np.concatenate(parts))
        features: NDArray[np.float32] = np.load(path, allow_pickle=False)
        return features
