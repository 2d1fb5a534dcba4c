"""The lists that training reads, and the pairs that are kept out of them to judge by."""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass
from pathlib import Path

import cv2
import numpy as np
from tqdm import tqdm

from edge_runtime.errors import DataError
from edge_runtime.system.files import write_atomically
from tools.factory.data.pictures import preprocessor, show
from tools.factory.data.pseudo_infrared import pseudo_infrared
from tools.factory.data.samples import scan
from tools.factory.edgevl.curation import Pair, find_pairs, keep_confident, pseudo_label, to_csv
from tools.factory.edgevl.pairs import JudgedPairs, judged_pairs
from tools.factory.edgevl.recipe import PairRecipe
from tools.factory.edgevl.setting import Setting
from tools.factory.evaluation.labelled import open_data
from tools.factory.recipe import SourceRecipe


@dataclass(frozen=True)
class Curated:
    """Validation and test pairs of one source; floor: the least confidence that training kept."""

    validation: JudgedPairs
    test: JudgedPairs
    floor: float


def curate_pairs(setting: Setting, recipe: PairRecipe) -> Curated:
    """Label the pairs and write the list that training reads.

    Raises DataError when the pairs are too few for three parts.
    """
    superset = setting.supersets[recipe.labels]
    rgb = setting.data / recipe.rgb
    pairs = find_pairs(rgb, setting.data / recipe.partner, recipe.modality)
    labelled = pseudo_label(pairs, setting.teacher, superset, quiet=setting.quiet)
    kept = keep_confident(labelled, recipe.keep)
    _write_list(setting, recipe, kept)

    parts = {
        split: [pair for pair in kept if pair.split == split]
        for split in ("train", "validation", "test")
    }
    short = [split for split, part in parts.items() if not part]
    if short:
        raise DataError(
            f"{rgb}: {len(pairs)} pairs leave none for {' and '.join(short)}", "give more of them"
        )

    floor = min(pair.confidence for pair in parts["train"])
    validation, test = (
        judged_pairs(recipe.name, parts[split], floor, setting.start, setting.teacher, superset)
        for split in ("validation", "test")
    )
    return Curated(validation, test, floor)


def evaluation_pairs(setting: Setting, pack: Path, floor: float) -> JudgedPairs:
    """The pairs of the evaluation pack: they join the tables and choose nothing."""
    recipe = setting.recipe.evaluation
    superset = setting.supersets[recipe.labels]
    with open_data(pack) as root:
        pairs = find_pairs(root / recipe.rgb, root / recipe.partner, recipe.modality)
        labelled = pseudo_label(pairs, setting.teacher, superset, quiet=setting.quiet)
        return judged_pairs(recipe.name, labelled, floor, setting.start, setting.teacher, superset)


def list_colour(setting: Setting) -> None:
    """Pair each colour picture with pseudo-infrared made of it, and list them for training."""
    for number, source in enumerate(setting.recipe.colour):
        folder = _infrared_folder(setting, number, source)
        folder.mkdir(exist_ok=True)
        samples = tqdm(
            scan((source,), setting.data),
            desc=f"{source.name} as infrared",
            disable=setting.quiet,
        )
        prepare = preprocessor(setting.start.input, setting.start.input.cache_size)

        pairs = []
        for row, sample in enumerate(samples):
            infrared = folder / f"{row:05}.png"
            if not infrared.is_file():
                try:
                    picture = show(sample, prepare)[0]
                except (OSError, ValueError):
                    # The training that reads this source lists it as broken.
                    continue
                rng = np.random.default_rng((setting.recipe.seed, 9, number, row))
                png = cv2.imencode(".png", pseudo_infrared(picture, rng))[1]
                # Atomically: half a picture would be taken for a whole one the next time.
                write_atomically(infrared, png.tobytes(), durable=False)
            pairs.append(Pair(sample.file, infrared, "ir", "train"))
        _write_list(setting, source, pairs)


def _infrared_folder(setting: Setting, number: int, source: SourceRecipe) -> Path:
    """Named by all that the pictures depend on, so that a changed source gets new ones."""
    parts = (setting.recipe.seed, number, asdict(source), setting.start.input.cache_size)
    digest = hashlib.sha256(repr(parts).encode()).hexdigest()[:8]
    return setting.output.resolve() / f"{source.name}-ir-{digest}"


def _write_list(setting: Setting, source: PairRecipe | SourceRecipe, pairs: list[Pair]) -> None:
    text = to_csv(pairs, setting.output.resolve())
    write_atomically(setting.list_of(source), text.encode())
