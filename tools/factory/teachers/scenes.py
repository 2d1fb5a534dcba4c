"""A scene classifier as a second teacher: what kind of place a picture shows.

ImageNet classifiers know objects. SqueezeNet (Iandola et al. 2016), trained on Places365, knows 365
kinds of places: a weak classifier, but no other teacher here knows any place. Its posterior reaches
the student through the text rows of its classes, in the posterior term of the loss.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from edge_runtime.errors import DataError, NoInputError
from tools.factory.data.arrays import write_array
from tools.factory.data.pictures import PictureCache
from tools.factory.recipe import Recipe
from tools.factory.teachers.teacher import Teacher, unit

CHUNK = 64  # pictures
SIDE = 224
MEAN = (116.3, 113.7, 105.4)  # RGB; the network was trained on BGR
SLOPE = 0.55  # of the leaky ReLU after every convolution
# The fires by number, and the ones before which the map is halved.
FIRES = (2, 3, 4, 5, 6, 7, 8, 9)
POOLED_BEFORE = (2, 4, 6)
Pictures = NDArray[np.uint8]  # (N, H, W, 3) RGB


class SceneClassifier:
    """Pictures -> posteriors over the names of 365 kinds of places."""

    def __init__(self, weights: Path) -> None:
        """`weights` is the .npz; the names stand in the .json beside it.

        Raises NoInputError where one of them is missing, DataError where they are something else.
        """
        try:
            with np.load(weights, allow_pickle=False) as archive:
                self._tensors = {
                    name: torch.from_numpy(archive[name].astype(np.float32))
                    for name in archive.files
                }
            described = json.loads(weights.with_suffix(".json").read_text("utf-8"))
            self.names = [_phrase(name) for name in described["classes"]]
        except FileNotFoundError as error:
            raise NoInputError(f"{error.filename}: no such file", "check teacher.scenes") from error
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise DataError(f"{weights}: no scene classifier ({error})") from error

    @torch.no_grad()
    def __call__(self, pictures: Pictures) -> NDArray[np.float32]:
        """(N, H, W, 3) uint8 RGB -> p(kind of place), (N, 365)."""
        resized = np.stack([cv2.resize(picture, (SIDE, SIDE)) for picture in pictures])
        pixels = torch.from_numpy(resized).float().sub_(torch.tensor(MEAN)).div_(255)
        x = pixels.flip(3).permute(0, 3, 1, 2).contiguous(memory_format=torch.channels_last)

        x = self._conv(x, "conv1", stride=2)
        for fire in FIRES:
            if fire in POOLED_BEFORE:
                x = F.max_pool2d(x, 3, 2, ceil_mode=True)
            x = self._fire(x, f"fire{fire}")
        return self._conv(x, "conv10", padding=0).mean((2, 3)).softmax(1).numpy()

    def _fire(self, x: Tensor, name: str) -> Tensor:
        squeezed = self._conv(x, f"{name}.squeeze1x1", padding=0)
        narrow = self._conv(squeezed, f"{name}.expand1x1", padding=0)
        wide = self._conv(squeezed, f"{name}.expand3x3")
        return torch.cat((narrow, wide), 1)

    def _conv(self, x: Tensor, name: str, *, stride: int = 1, padding: int = 1) -> Tensor:
        weight = self._tensors[f"{name}.weight"]
        bias = self._tensors[f"{name}.bias"]
        return F.leaky_relu(F.conv2d(x, weight, bias, stride, padding), SLOPE)


def cache_scenes(
    teacher: Teacher, recipe: Recipe, cache: PictureCache, folder: Path, *, quiet: bool
) -> tuple[NDArray[np.float32], NDArray[np.float16]]:
    """(text rows (K, D) of the kinds of places, posteriors (N, K)), computed once.

    The classifier sees whole pictures of the sources that the recipe calls scenes; other rows are
    0.
    """
    path = Path(recipe.teacher.scenes)
    classifier = SceneClassifier(path)
    names = unit(teacher.text_embeddings(classifier.names))
    scenes = np.array([recipe.data[sample.source].scene for sample in cache.samples])
    digest = hashlib.sha256(path.read_bytes() + scenes.tobytes()).hexdigest()[:12]
    stored = folder / f"scenes-{digest}-{cache.digest}.npy"
    if not stored.exists():
        shares = np.zeros((len(scenes), len(names)), np.float16)
        rows = np.flatnonzero(scenes)
        for start in tqdm(range(0, len(rows), CHUNK), desc="scenes", disable=quiet):
            chosen = rows[start : start + CHUNK]
            shares[chosen] = classifier(cache.pictures[chosen])
        write_array(stored, shares)
    posteriors: NDArray[np.float16] = np.load(stored, mmap_mode="r")
    return names, posteriors


def _phrase(name: str) -> str:
    """ "apartment_building/outdoor" -> "apartment building outdoor", as SUN397 spells it."""
    return name.replace("_", " ").replace("/", " ")
