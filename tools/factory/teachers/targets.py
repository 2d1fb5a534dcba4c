"""What the student is to match: teacher embeddings of every picture, computed once and kept.

With `targets.views` > 0 the parameters of each augmented view are stored beside the embedding of
that very view, and the student is shown the same view again."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from edge_runtime.errors import ConfigError, DataError, NoInputError
from edge_runtime.files import write_atomically
from tools.factory.data.arrays import write_array
from tools.factory.data.augment import VIEW, geometry_of, stack_views, whole_picture
from tools.factory.data.pictures import PictureCache
from tools.factory.data.views import draw_views, partners
from tools.factory.recipe import Recipe
from tools.factory.teachers.offline import OfflineTeacher
from tools.factory.teachers.teacher import Teacher, unit

CHUNK = 256


@dataclass(frozen=True)
class Targets:
    """embeddings: (max(views, 1), N, D) float16, unit norm; views: the same first axes, or None
    without replay.

    names (K, D) and posterior (max(views, 1), N, K) float16: what a classifier as teacher thinks of
    its classes, where the recipe weighs that; else None.
    """

    embeddings: NDArray[np.float16]
    views: NDArray[np.void] | None
    names: NDArray[np.float32] | None = None
    posterior: NDArray[np.float16] | None = None


def cache_targets(
    teacher: Teacher, recipe: Recipe, cache: PictureCache, folder: Path, *, quiet: bool
) -> Targets:
    """Teacher embeddings of all pictures, computed once; an interrupted pass goes on where it
    stopped.

    Held-out pictures get their whole-picture embedding (plane 0) only. The teacher never sees
    infrared or depth: such a picture's target is what the teacher makes of its colour partner,
    under the same crop.
    """
    folder.mkdir(parents=True, exist_ok=True)
    whole = recipe.targets.teacher_sees == "whole"
    planes = 1 if whole else max(recipe.targets.views, 1)
    count = len(cache.samples)
    classifier = _as_classifier(teacher) if recipe.losses.posterior else None
    parts = ["teacher", "input", "targets", "data"] + (
        ["augment", "seed"] if recipe.targets.views else []
    )
    stem = f"targets-{recipe.digest(*parts)}-{cache.digest}{'-posterior' if classifier else ''}"
    paths = {
        kind: folder / f"{stem}.{kind}"
        for kind in ("f16", "posterior.f16", "views.npy", "done.json")
    }
    views = draw_views(recipe, cache) if recipe.targets.views else None
    if views is not None and not paths["views.npy"].exists():
        write_array(paths["views.npy"], views)
    elif views is not None:
        views = np.load(paths["views.npy"], allow_pickle=False)
    done = 0
    dim = 0
    if paths["done.json"].exists():
        state = json.loads(paths["done.json"].read_text())
        done = state["done"]
        dim = state["dim"]
    work = [(p, s) for p in range(planes) for s in range(0, count, CHUNK)]
    if done < len(work):
        dim = dim or teacher.image_embeddings(np.zeros((1, 32, 32, 3), np.uint8)).shape[1]
        mode = "r+" if paths["f16"].exists() and done else "w+"
        array = np.memmap(paths["f16"], np.float16, mode, shape=(planes, count, dim))
        if classifier:
            shares = np.memmap(
                paths["posterior.f16"],
                np.float16,
                mode,
                shape=(planes, count, len(classifier.imagenet)),
            )
        for number in tqdm(range(done, len(work)), desc="teacher", unit="chunk", disable=quiet):
            plane, start = work[number]
            rows = np.arange(start, min(start + CHUNK, count))
            if plane:
                rows = rows[[not cache.samples[i].held_out for i in rows]]
            rows = rows[[not cache.samples[i].partner for i in rows]]
            if len(rows):
                shown = np.array(
                    [_teacher_view(recipe, cache, views, plane, i) for i in rows], VIEW
                )
                pictures = stack_views(cache.pictures, rows, shown, recipe.input.cache_size)
                if classifier:
                    shares[plane, rows], array[plane, rows] = classifier.look(pictures)
                else:
                    array[plane, rows] = teacher.image_embeddings(pictures)
            if number % 16 == 15 or number == len(work) - 1:
                array.flush()
                if classifier:
                    shares.flush()
                write_atomically(
                    paths["done.json"], json.dumps({"done": number + 1, "dim": dim}).encode()
                )
    embeddings = np.memmap(paths["f16"], np.float16, "c", shape=(planes, count, dim))
    _use_genuine(recipe, cache, embeddings)
    for row, partner in partners(cache).items():
        embeddings[:, row] = embeddings[:, partner]
    shares = None
    if classifier:
        shares = np.memmap(
            paths["posterior.f16"], np.float16, "r", shape=(planes, count, len(classifier.imagenet))
        )
    if whole and views is not None:
        embeddings = np.broadcast_to(embeddings, (len(views), *embeddings.shape[1:]))
        shares = (
            None if shares is None else np.broadcast_to(shares, (len(views), *shares.shape[1:]))
        )
    return Targets(embeddings, views, classifier.imagenet if classifier else None, shares)


def _as_classifier(teacher: Teacher) -> OfflineTeacher:
    if not isinstance(teacher, OfflineTeacher):
        raise ConfigError(
            "losses.posterior: this teacher is no classifier; set it to 0 and weigh relational instead"
        )
    return teacher


def _teacher_view(
    recipe: Recipe, cache: PictureCache, views: NDArray[np.void] | None, plane: int, row: int
) -> np.void:
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
            raise NoInputError(
                f"{source.targets}: no such file; check 'targets' of '{source.name}'"
            ) from None
        except (ValueError, KeyError, OSError) as error:
            raise DataError(
                f"{source.targets}: needs image_embeddings and file_name ({error})"
            ) from None
        if rows.shape[1] != embeddings.shape[2]:
            raise ConfigError(
                f"{source.targets}: embeddings of {rows.shape[1]} numbers, the teacher's have {embeddings.shape[2]}; "
                "these are two text spaces"
            )
        for i, sample in enumerate(cache.samples):
            if sample.source == number:
                name = sample.key.split("/", 1)[1]
                if name not in index:
                    raise DataError(
                        f"{source.targets}: no embedding for {name}; list it or remove the picture"
                    )
                embeddings[:, i] = rows[index[name]]
