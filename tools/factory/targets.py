"""What the student is to match: teacher embeddings of every picture (cached), and the text rows of every label.

Teacher passes are paid for once. With `targets.views` > 0 the parameters of each augmented view are stored beside
the embedding of that very view, and the student is shown the same view again.
"""

from __future__ import annotations

import io
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from edge_runtime.errors import ConfigError, DataError, NoInputError
from edge_runtime.files import write_atomically
from tools.factory import conditions
from tools.factory.augment import VIEW, draw, geometry_of, monochrome, stack_views, whole_picture
from tools.factory.datasets import PictureCache
from tools.factory.recipe import BankRecipe, Recipe, SourceRecipe
from tools.factory.teachers import OfflineTeacher, Teacher, check_text_space, unit

CHUNK = 256


@dataclass(frozen=True)
class Targets:
    """embeddings: (max(views, 1), N, D) float16, unit norm; views: the same first axes, or None without replay.

    names (K, D) and posterior (max(views, 1), N, K) float16: what a classifier as teacher thinks of its classes, where
    the recipe weighs that; else None.
    """

    embeddings: NDArray[np.float16]
    views: NDArray[np.void] | None
    names: NDArray[np.float32] | None = None
    posterior: NDArray[np.float16] | None = None


def cache_targets(teacher: Teacher, recipe: Recipe, cache: PictureCache, folder: Path, *, quiet: bool) -> Targets:
    """Teacher embeddings of all pictures, computed once; an interrupted pass goes on where it stopped.

    Held-out pictures get their whole-picture embedding (plane 0) only. The teacher never sees infrared or depth: such
    a picture's target is what the teacher makes of its colour partner, under the same crop.
    """
    folder.mkdir(parents=True, exist_ok=True)
    whole = recipe.targets.teacher_sees == "whole"
    planes, count = 1 if whole else max(recipe.targets.views, 1), len(cache.samples)
    classifier = _as_classifier(teacher) if recipe.losses.posterior else None
    parts = ["teacher", "input", "targets", "data"] + (["augment", "seed"] if recipe.targets.views else [])
    stem = f"targets-{recipe.digest(*parts)}-{cache.digest}{'-posterior' if classifier else ''}"
    paths = {kind: folder / f"{stem}.{kind}" for kind in ("f16", "posterior.f16", "views.npy", "done.json")}
    views = _draw_views(recipe, cache) if recipe.targets.views else None
    if views is not None and not paths["views.npy"].exists():
        write_array(paths["views.npy"], views)
    elif views is not None:
        views = np.load(paths["views.npy"], allow_pickle=False)
    done, dim = 0, 0
    if paths["done.json"].exists():
        state = json.loads(paths["done.json"].read_text())
        done, dim = state["done"], state["dim"]
    work = [(p, s) for p in range(planes) for s in range(0, count, CHUNK)]
    if done < len(work):
        dim = dim or teacher.image_embeddings(np.zeros((1, 32, 32, 3), np.uint8)).shape[1]
        mode = "r+" if paths["f16"].exists() and done else "w+"
        array = np.memmap(paths["f16"], np.float16, mode, shape=(planes, count, dim))
        if classifier:
            shares = np.memmap(
                paths["posterior.f16"], np.float16, mode, shape=(planes, count, len(classifier.imagenet))
            )
        for number in tqdm(range(done, len(work)), desc="teacher", unit="chunk", disable=quiet):
            plane, start = work[number]
            rows = np.arange(start, min(start + CHUNK, count))
            if plane:
                rows = rows[[not cache.samples[i].held_out for i in rows]]
            rows = rows[[not cache.samples[i].partner for i in rows]]
            if len(rows):
                shown = np.array([_teacher_view(recipe, cache, views, plane, i) for i in rows], VIEW)
                pictures = stack_views(cache.pictures, rows, shown, recipe.input.cache_size)
                if classifier:
                    shares[plane, rows], array[plane, rows] = classifier.look(pictures)
                else:
                    array[plane, rows] = teacher.image_embeddings(pictures)
            if number % 16 == 15 or number == len(work) - 1:
                array.flush()
                if classifier:
                    shares.flush()
                write_atomically(paths["done.json"], json.dumps({"done": number + 1, "dim": dim}).encode())
    embeddings = np.memmap(paths["f16"], np.float16, "c", shape=(planes, count, dim))
    _use_genuine(recipe, cache, embeddings)
    for row, partner in partners(cache).items():
        embeddings[:, row] = embeddings[:, partner]
    shares = None
    if classifier:
        shares = np.memmap(paths["posterior.f16"], np.float16, "r", shape=(planes, count, len(classifier.imagenet)))
    if whole and views is not None:
        embeddings = np.broadcast_to(embeddings, (len(views), *embeddings.shape[1:]))
        shares = None if shares is None else np.broadcast_to(shares, (len(views), *shares.shape[1:]))
    return Targets(embeddings, views, classifier.imagenet if classifier else None, shares)


def write_array(path: Path, array: NDArray[Any]) -> None:
    """An .npy file, atomically: half of one would stop every later run. Raises DataError."""
    data = io.BytesIO()
    np.save(data, array, allow_pickle=False)
    write_atomically(path, data.getvalue())


def _as_classifier(teacher: Teacher) -> OfflineTeacher:
    if not isinstance(teacher, OfflineTeacher):
        raise ConfigError("losses.posterior: this teacher is no classifier; set it to 0 and weigh relational instead")
    return teacher


def _draw_views(recipe: Recipe, cache: PictureCache) -> NDArray[np.void]:
    views = np.zeros((recipe.targets.views, len(cache.samples)), VIEW)
    for plane in range(recipe.targets.views):
        for row, sample in enumerate(cache.samples):
            if sample.held_out:
                views[plane, row] = whole_picture()
            else:
                views[plane, row] = draw_view((recipe.seed, 1, plane, row), recipe, cache, row, recipe.input.size)
    for row, partner in partners(cache).items():  # one crop and flip for both
        views["box"][:, row], views["flip"][:, row] = views["box"][:, partner], views["flip"][:, partner]
    return views


def draw_view(key: tuple[int, ...], recipe: Recipe, cache: PictureCache, row: int, size: int) -> np.void:
    """Draw one view of a picture, as its source and modality allow."""
    view = draw(key, recipe.augment, size, conditions=may_get_condition(recipe, cache, row))
    modality = cache.samples[row].modality
    if modality == "rgb":
        return view
    turned = np.random.default_rng((*key, 7)).random() < recipe.augment.negative_probability
    return monochrome(view, negative=modality == "ir" and bool(turned))


def partners(cache: PictureCache) -> dict[int, int]:
    """Row of every infrared or depth picture -> row of its colour partner. Raises DataError if that is unreadable."""
    row_of = {sample.key: i for i, sample in enumerate(cache.samples)}
    paired = {i: sample for i, sample in enumerate(cache.samples) if sample.partner}
    for sample in paired.values():
        if sample.partner not in row_of:
            raise DataError(f"{sample.partner}: cannot be read, but {sample.key} needs it; mend or unlist the pair")
    return {i: row_of[sample.partner] for i, sample in paired.items()}


def may_get_condition(recipe: Recipe, cache: PictureCache, row: int) -> bool:
    """Whether a synthetic condition may be laid over this picture: its source says so and it shows none yet."""
    sample = cache.samples[row]
    return recipe.data[sample.source].conditions and not sample.condition and sample.modality == "rgb"


def _teacher_view(recipe: Recipe, cache: PictureCache, views: NDArray[np.void] | None, plane: int, row: int) -> np.void:
    if views is None or cache.samples[row].held_out or recipe.targets.teacher_sees == "whole":
        return whole_picture()
    view = views[plane, row]
    return view if recipe.targets.teacher_sees == "all" else geometry_of(view)


def _use_genuine(recipe: Recipe, cache: PictureCache, embeddings: NDArray[np.float16]) -> None:
    """Overwrite (in memory) the rows of sources that bring genuine embeddings of their own."""
    for number, source in enumerate(recipe.data):
        if not source.targets:
            continue
        try:
            with np.load(source.targets, allow_pickle=False) as archive:
                rows = unit(archive["image_embeddings"])
                index = {str(name): i for i, name in enumerate(archive["file_name"])}
        except FileNotFoundError:
            raise NoInputError(f"{source.targets}: no such file; check 'targets' of '{source.name}'") from None
        except (ValueError, KeyError, OSError) as error:
            raise DataError(f"{source.targets}: needs image_embeddings and file_name ({error})") from None
        if rows.shape[1] != embeddings.shape[2]:
            raise ConfigError(
                f"{source.targets}: embeddings of {rows.shape[1]} numbers, the teacher's have {embeddings.shape[2]}; "
                "these are two text spaces"
            )
        for i, sample in enumerate(cache.samples):
            if sample.source == number:
                name = sample.key.split("/", 1)[1]
                if name not in index:
                    raise DataError(f"{source.targets}: no embedding for {name}; list it or remove the picture")
                embeddings[:, i] = rows[index[name]]


@dataclass(frozen=True)
class Texts:
    """rows: (V, D) float32, one per distinct set of prompts of a group; of_sample: (N,) row of each picture, or -1.

    names: a prompt for each row; groups: (V,) the group each row competes in; conditions: (C, D) float32 in the order
    of conditions.NAMES.
    """

    rows: NDArray[np.float32]
    names: list[str]
    groups: NDArray[np.int64]
    of_sample: NDArray[np.int64]
    conditions: NDArray[np.float32]


def embed_texts(teacher: Teacher, sources: tuple[SourceRecipe, ...], cache: PictureCache) -> Texts:
    """Embed every label's prompts and every condition's; several prompts are averaged and normalised again."""
    vocabulary: dict[tuple[str, tuple[str, ...]], int] = {}
    of_sample = np.full(len(cache.samples), -1, np.int64)
    for i, sample in enumerate(cache.samples):
        if sample.prompts:
            key = (sources[sample.source].group, sample.prompts)
            of_sample[i] = vocabulary.setdefault(key, len(vocabulary))
    numbers = {group: number for number, group in enumerate(sorted({group for group, _ in vocabulary}))}
    groups = np.array([numbers[group] for group, _ in vocabulary], np.int64)
    spoken = _mean_rows(teacher, [conditions.TEXTS[name] for name in conditions.NAMES])
    prompts = [prompts for _, prompts in vocabulary]
    rows = _mean_rows(teacher, prompts) if prompts else np.zeros((0, spoken.shape[1]), np.float32)
    return Texts(rows, [alternatives[0] for alternatives in prompts], groups, of_sample, spoken)


def _mean_rows(teacher: Teacher, groups: list[tuple[str, ...]]) -> NDArray[np.float32]:
    flat = [prompt for group in groups for prompt in group]
    rows = unit(teacher.text_embeddings(flat))
    ends = np.cumsum([len(group) for group in groups])
    return unit(np.stack([part.mean(0) for part in np.split(rows, ends[:-1])]))


def load_bank(teacher: Teacher, recipe: BankRecipe) -> NDArray[np.float32]:
    """The sentences of the relational loss: (N, D) float32, unit norm, no two rows alike.

    Raises ConfigError when the bank is of another text space than the teacher.
    """
    path = Path(recipe.path)
    try:
        if path.suffix == ".txt":
            lines = {line.strip() for line in path.read_text(encoding="utf-8").splitlines()}
            phrases = sorted(line for line in lines if line and not line.startswith("#"))
            if not phrases:
                raise DataError(f"{path}: no phrases; write one a line")
            rows = unit(teacher.text_embeddings(phrases))
        else:
            check_text_space(teacher, recipe.text_space, str(path))
            rows = unit(np.load(path, allow_pickle=False))
    except OSError as error:
        raise NoInputError(f"{path}: {error.strerror or error}; check bank.path") from None
    except ValueError as error:
        raise DataError(f"{path}: not an .npy of embeddings ({error})") from None
    if rows.ndim != 2:
        raise DataError(f"{path}: shape {rows.shape}, should be (sentences, dim)")
    rows = np.unique(rows, axis=0)
    if recipe.limit and len(rows) > recipe.limit:
        rows = rows[np.linspace(0, len(rows) - 1, recipe.limit).round().astype(int)]
    return rows
