"""Strange views: frames that show nothing a label could be right about.

A wall, bare ground, noise or a hand over the lens lie on one side of a plane in the space of
embeddings and contrast, ordinary pictures on the other. The factory fits that plane for each
encoder (`python -m tools.calibrate views`); docs/decisions/024-strange-views.md says what was
compared.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from edge_runtime.errors import BundleError
from edge_runtime.model.bundle import Bundle
from edge_runtime.model.manifest import ENCODER
from edge_runtime.model.npy import read_embeddings

DIRECTION = "strange_view.npy"


class StrangeViews:
    """Callable: a unit-norm embedding (dim,) and a contrast -> whether the view is a strange one.

    The contrast is that of `preprocess.contrast_of`.
    """

    def __init__(self, direction: NDArray[np.float32], contrast: float, limit: float) -> None:
        """``direction`` (dim,) of unit norm; ``limit`` is where ordinary views end."""
        self._direction = direction
        self._contrast = contrast
        self._limit = limit

    @classmethod
    def from_bundle(cls, bundle: Bundle) -> StrangeViews | None:
        """None for a bundle without them. Raises BundleError for a direction that does not fit."""
        manifest = bundle.manifest
        spec = manifest.strange_views
        if spec is None:
            return None

        if spec.encoder != manifest.files[ENCODER][0]:
            raise BundleError(
                f"{bundle.path}: its strange views were fitted for another encoder",
                "reinstall the bundle",
            )

        where = str(bundle.path / DIRECTION)
        rows = read_embeddings(bundle.read(DIRECTION), where)
        if rows.shape != (1, manifest.dim):
            raise BundleError(
                f"{where}: shape {rows.shape} is not (1, {manifest.dim})",
                "reinstall the bundle",
            )
        return cls(rows[0].astype(np.float32), spec.contrast, spec.limit)

    def __call__(self, embedding: NDArray[np.float32], contrast: float) -> bool:
        plain = self._contrast * math.log(max(contrast, 1.0))
        return bool(self._direction @ embedding + plain > self._limit)
