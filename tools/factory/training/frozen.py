"""The frozen layers of a student as a function, computed in the fastest way that is right."""

from __future__ import annotations

import hashlib
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from edge_runtime.model.encoder import open_session
from tools.factory.recipe import Recipe
from tools.factory.students.bundle_start import BUNDLE, first_layers
from tools.factory.students.student import Student, to_pixels

THREADS = 2  # the factory is written for two cores


class FrozenLayers(Protocol):
    """(B, H, W, 3) uint8 -> (B, C, h, w) float32, or (B, C, 1, 1) where all layers are frozen.

    digest: changes with the weights of these layers.
    """

    digest: str

    def __call__(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """What the trained layers read."""
        ...


def frozen_layers(student: Student, recipe: Recipe, device: torch.device) -> FrozenLayers:
    """The frozen layers of a student in evaluation mode.

    Of a bundle, on a CPU, they run in int8, as on the camera: four times as fast, and the layers
    after them learn from what they will read. A graph takes pictures of one size only.
    """
    pretrained = recipe.student.pretrained
    same_size = recipe.stem_size == recipe.input.size
    if pretrained.startswith(BUNDLE) and device.type == "cpu" and same_size:
        return _Int8Layers(first_layers(pretrained, student.backbone.frozen))
    return _FloatLayers(student, device)


class _FloatLayers:
    def __init__(self, student: Student, device: torch.device) -> None:
        self._student = student.to(device, memory_format=torch.channels_last).eval()
        self._device = device
        digest = hashlib.sha256()
        for layer in student.backbone.layers[: student.backbone.frozen]:
            for name, tensor in layer.state_dict().items():
                digest.update(name.encode() + tensor.cpu().contiguous().numpy().tobytes())
        self.digest = digest.hexdigest()[:12]

    @torch.no_grad()
    def __call__(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        stem = self._student.stem(to_pixels(pixels, self._device)).float()
        if self._student.backbone.all_frozen:
            # What follows the last layer begins with the mean over the picture.
            stem = stem.mean((2, 3), keepdim=True)
        return stem.cpu().numpy()


class _Int8Layers:
    def __init__(self, graph: bytes) -> None:
        self._session = open_session(graph, THREADS, "the frozen layers")
        self._input = self._session.get_inputs()[0].name
        self.digest = hashlib.sha256(graph).hexdigest()[:12]

    def __call__(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        parts = [self._session.run(None, {self._input: picture[None]})[0] for picture in pixels]
        stem = np.concatenate(parts)
        return stem if stem.ndim == 4 else stem[:, :, None, None]
