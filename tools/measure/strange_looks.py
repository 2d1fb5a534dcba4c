"""What can be known of a picture besides its embedding, for `tools.measure.strange_views`."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_runtime.errors import DataError
from edge_runtime.model.bundle import Bundle
from edge_runtime.model.encoder import open_session
from edge_runtime.model.preprocess import Preprocessor, contrast_of
from tools.factory.data.strange import Picture

COARSE = 22  # pixels a side; at that size only large shapes are left

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Looks:
    """What was measured of pictures.

    Attributes:
        embedding: Shape (pictures, dim), unit norm.
        features: Shape (pictures, channels): what goes into the head, the mean over all places.
        likeness: Shape (pictures,): the mean cosine between the features of two places. An empty
            surface looks the same everywhere.
        contrast: Shape (pictures,): that of `contrast_of`.
        coarse: Shape (pictures,): standard deviation of the brightness of a picture shrunk to
            `COARSE`.
    """

    embedding: Floats
    features: Floats
    likeness: Floats
    contrast: Floats
    coarse: Floats


class Looker:
    """Pictures -> `Looks`, by a bundle's encoder with one more output."""

    def __init__(self, bundle: Bundle) -> None:
        """Raises DataError for an encoder that has no mean over places."""
        import onnx

        model = onnx.load_from_string(bundle.encoder_bytes())
        pools = [node for node in model.graph.node if node.op_type == "GlobalAveragePool"]
        if len(pools) != 1:
            raise DataError(f"{bundle.path}: its encoder has {len(pools)} means over places, not 1")

        self._places = pools[0].input[0]
        model.graph.output.append(onnx.helper.make_empty_tensor_value_info(self._places))
        self._session = open_session(model.SerializeToString(), 1, str(bundle.path))
        self._prepare = Preprocessor(bundle.manifest.input)
        self._input = bundle.manifest.input.name
        self._embedding = bundle.manifest.embedding_name

    def __call__(self, pictures: Iterable[Picture]) -> Looks:
        """Raises DataError without pictures."""
        rows = [self._look(picture) for picture in pictures]
        if not rows:
            raise DataError("strange views: no pictures", "check --data")
        return Looks(*(np.array(column, np.float32) for column in zip(*rows, strict=True)))

    def _look(self, picture: Picture) -> tuple[Floats, Floats, float, float, float]:
        batch = self._prepare(picture)
        embedding, places = self._session.run([self._embedding, self._places], {self._input: batch})
        columns = places[0].reshape(places.shape[1], -1)
        units = columns / np.maximum(np.linalg.norm(columns, axis=0), 1e-6)
        mean = units.mean(axis=1)

        grey = cv2.cvtColor(batch[0], cv2.COLOR_RGB2GRAY)
        small = cv2.resize(grey, (COARSE, COARSE), interpolation=cv2.INTER_AREA)
        unit = embedding[0] / np.linalg.norm(embedding[0])
        return (
            unit,
            columns.mean(axis=1),
            float(mean @ mean),
            contrast_of(batch[0]),
            float(small.std()),
        )


def joined(parts: Iterable[Looks]) -> Looks:
    """One after the other."""
    listed = list(parts)
    fields = ("embedding", "features", "likeness", "contrast", "coarse")
    return Looks(*(np.concatenate([getattr(part, name) for part in listed]) for name in fields))
