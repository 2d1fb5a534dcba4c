"""All that a training reads, prepared from the recipe: pictures, targets, texts, bank."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from tools.factory.data.pictures import PictureCache, cache_pictures, write_broken_list
from tools.factory.data.samples import scan
from tools.factory.recipe import Recipe
from tools.factory.teachers.targets import Targets, cache_targets
from tools.factory.teachers.teacher import Teacher
from tools.factory.teachers.texts import Texts, embed_texts, load_bank
from tools.factory.training.features import FeatureCache
from tools.factory.training.stems import Stems


@dataclass(frozen=True)
class Materials:
    """All that a run reads.

    `bank` is (N, D) float32. Where there are `stems`, training reads them instead of pixels; where
    only the head is trained, scores read `features`.
    """

    recipe: Recipe
    cache: PictureCache
    targets: Targets
    texts: Texts
    bank: NDArray[np.float32]
    text_space: str
    stems: Stems | None = None
    features: FeatureCache | None = None


def prepare(recipe: Recipe, teacher: Teacher, data: Path, cache: Path, *, quiet: bool) -> Materials:
    """Pictures, teacher targets, texts and bank, from the cache where it has them."""
    pictures = cache_pictures(scan(recipe.data, data), recipe.input, cache, quiet=quiet)
    bank = load_bank(teacher, recipe.bank)
    texts = embed_texts(teacher, recipe.data, pictures)
    targets = cache_targets(teacher, recipe, pictures, cache, quiet=quiet)
    return Materials(recipe, pictures, targets, texts, bank, teacher.text_space)


def report_pictures(materials: Materials, output: Path, *, quiet: bool) -> None:
    """Print how many pictures there are, and list the unreadable ones in OUTPUT/broken.csv."""
    cache = materials.cache
    broken_list = output / "broken.csv"
    write_broken_list(cache.broken, broken_list)
    if quiet:
        return
    held_out = sum(sample.held_out for sample in cache.samples)
    texts = len(materials.texts.names)
    line = f"{len(cache.samples)} pictures, {held_out} held out, {texts} texts"
    if cache.broken:
        line += f"; {len(cache.broken)} skipped, see {broken_list}"
    tqdm.write(line, file=sys.stderr)
