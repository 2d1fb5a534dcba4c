"""What the student is to match: teacher embeddings of every picture, computed once and kept.

With `targets.views` > 0 the parameters of each augmented view are stored beside the embedding of
that very view, and the student is shown the same view again."""

from __future__ import annotations

import functools
import itertools
import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from edge_runtime.errors import ConfigError, DataError, NoInputError
from edge_runtime.system.files import write_atomically
from tools.factory.data.arrays import write_array
from tools.factory.data.augment import VIEW, geometry_of, stack_views, whole_picture
from tools.factory.data.pictures import PictureCache
from tools.factory.data.views import draw_views, partners
from tools.factory.recipe import Recipe, SourceRecipe
from tools.factory.students.bundle_start import BUNDLE, encoder_digest
from tools.factory.teachers.offline import OfflineTeacher
from tools.factory.teachers.scenes import cache_scenes
from tools.factory.teachers.teacher import Teacher, unit

Mode = Literal["r", "r+", "w+", "c"]
CHUNK = 256  # pictures the teacher is asked about at once
SAVED_EVERY = 16  # chunks; an interrupted pass loses no more


@dataclass(frozen=True)
class Targets:
    """What the student is to match.

    embeddings: (max(views, 1), N, D) float16, unit norm. views: the same first axes, or None
        without replay.
    names (K, D) and posterior (max(views, 1), N, K) float16: what a classifier as teacher thinks of
        its classes, where the recipe weighs that; else None. Rows of zeros where it did not look.
    """

    embeddings: NDArray[np.float16]
    views: NDArray[np.void] | None
    names: NDArray[np.float32] | None = None
    posterior: NDArray[np.float16] | None = None


def cache_targets(
    teacher: Teacher, recipe: Recipe, cache: PictureCache, folder: Path, *, quiet: bool
) -> Targets:
    """Teacher embeddings of all pictures, computed once; an interrupted pass continues.

    Held-out pictures get their whole-picture embedding (plane 0) only. The teacher never sees
    infrared or depth: such a picture's target is what the teacher makes of its colour partner,
    under the same crop.
    """
    folder.mkdir(parents=True, exist_ok=True)
    targets = _ask_teacher(teacher, recipe, cache, folder, quiet=quiet)
    if not recipe.teacher.scenes:
        return targets
    names, shares = cache_scenes(teacher, recipe, cache, folder, quiet=quiet)
    planes = len(targets.embeddings)
    return replace(targets, names=names, posterior=np.broadcast_to(shares, (planes, *shares.shape)))


def _ask_teacher(
    teacher: Teacher, recipe: Recipe, cache: PictureCache, folder: Path, *, quiet: bool
) -> Targets:
    asked = recipe.losses.posterior and not recipe.teacher.scenes
    classifier = _as_classifier(teacher) if asked else None
    stem = folder / _stem(recipe, cache, classifier)
    views = _stored_views(recipe, cache, stem)
    whole = recipe.targets.teacher_sees == "whole"
    planes = 1 if whole else max(recipe.targets.views, 1)
    teacher_pass = _TeacherPass(teacher, classifier, recipe, cache, views, planes, stem)
    dim = teacher_pass.run(quiet=quiet)

    # Mode "c": what is changed below stays in memory, the file keeps what the teacher said.
    embeddings = teacher_pass.open_embeddings("c", dim)
    posterior = teacher_pass.open_posterior("c") if classifier else None
    answers = [embeddings] if posterior is None else [embeddings, posterior]
    for answer in answers:
        _copy_rows(answer, teacher_pass.twins)
    _use_genuine(recipe, cache, embeddings)
    _copy_rows(embeddings, partners(cache))

    if whole and views is not None:
        # One look at the whole picture is the target of every view; no copy is made.
        answers = [np.broadcast_to(a, (len(views), *a.shape[1:])) for a in answers]
    names = classifier.imagenet if classifier else None
    return Targets(answers[0], views, names, answers[1] if classifier else None)


def _copy_rows(answer: NDArray[np.float16], source_of: dict[int, int]) -> None:
    """Give rows the answers of others, in place, in every plane."""
    for row, other in source_of.items():
        answer[:, row] = answer[:, other]


def _as_classifier(teacher: Teacher) -> OfflineTeacher:
    if not isinstance(teacher, OfflineTeacher):
        raise ConfigError(
            "losses.posterior: this teacher is no classifier",
            "set it to 0 and weigh relational instead",
        )
    return teacher


def _stem(recipe: Recipe, cache: PictureCache, classifier: OfflineTeacher | None) -> str:
    """The name of the files of a pass: it says all that the teacher's answers depend on."""
    parts = ["teacher", "input", "targets", "data"]
    if recipe.targets.views:
        parts += ["augment", "seed"]
    suffix = "-posterior" if classifier else ""
    neutral = recipe.without_labels()
    name = neutral.teacher.name
    if name.startswith(BUNDLE):
        # A bundle may be replaced by its next edition, or lie somewhere else.
        teacher = replace(neutral.teacher, name=BUNDLE + encoder_digest(name))
        neutral = replace(neutral, teacher=teacher)
    return f"targets-{neutral.digest(*parts)}-{cache.digest}{suffix}"


def _stored_views(recipe: Recipe, cache: PictureCache, stem: Path) -> NDArray[np.void] | None:
    """The views that this pass replays, drawn once; None without replay."""
    if not recipe.targets.views:
        return None
    path = Path(f"{stem}.views.npy")
    if path.exists():
        stored: NDArray[np.void] = np.load(path, allow_pickle=False)
        return stored
    views = draw_views(recipe, cache)
    write_array(path, views)
    return views


@dataclass(frozen=True)
class _TeacherPass:
    """One pass of the teacher over `planes` views of all pictures, and the files it fills.

    STEM.f16 has the embeddings, STEM.posterior.f16 what a classifier thinks of its classes,
    STEM.done.json how many chunks are finished.
    """

    teacher: Teacher
    classifier: OfflineTeacher | None
    recipe: Recipe
    cache: PictureCache
    views: NDArray[np.void] | None
    planes: int
    stem: Path

    def run(self, *, quiet: bool) -> int:
        """Ask the teacher for what is missing; the number of dimensions of its embeddings."""
        done, dim = self._progress()
        starts = range(0, len(self.cache.samples), CHUNK)
        work = list(itertools.product(range(self.planes), starts))
        if done >= len(work):
            return dim

        # A teacher does not say how wide its embeddings are, so one black picture is asked about.
        dim = dim or self.teacher.image_embeddings(np.zeros((1, 32, 32, 3), np.uint8)).shape[1]
        mode: Literal["r+", "w+"] = "r+" if done and Path(f"{self.stem}.f16").exists() else "w+"
        embeddings = self.open_embeddings(mode, dim)
        posterior = self.open_posterior(mode) if self.classifier else None
        for number in tqdm(range(done, len(work)), desc="teacher", unit="chunk", disable=quiet):
            plane, start = work[number]
            rows = self._rows(plane, start)
            if len(rows):
                pictures = self._pictures(plane, rows)
                if self.classifier and posterior is not None:
                    posterior[plane, rows], embeddings[plane, rows] = self.classifier.look(pictures)
                else:
                    embeddings[plane, rows] = self.teacher.image_embeddings(pictures)
            if (number + 1) % SAVED_EVERY == 0 or number == len(work) - 1:
                self._save(number + 1, dim, embeddings, posterior)
        return dim

    @functools.cached_property
    def twins(self) -> dict[int, int]:
        """Row of a picture -> row of the same file in an earlier source.

        A source may list the pictures of another under other labels. Where the teacher sees whole
        pictures, it is asked about each file once.
        """
        if self.views is not None and self.recipe.targets.teacher_sees != "whole":
            return {}
        first: dict[tuple[Path, int], int] = {}
        twins = {}
        for row, sample in enumerate(self.cache.samples):
            earlier = first.setdefault((sample.file, sample.offset), row)
            if earlier != row and not sample.partner:
                twins[row] = earlier
        return twins

    def open_embeddings(self, mode: Mode, dim: int) -> np.memmap[Any, Any]:
        """(planes, N, dim) float16."""
        shape = (self.planes, len(self.cache.samples), dim)
        return np.memmap(f"{self.stem}.f16", np.float16, mode, shape=shape)

    def open_posterior(self, mode: Mode) -> np.memmap[Any, Any]:
        """(planes, N, classes) float16; for a classifier only."""
        classes = len(self.classifier.imagenet) if self.classifier else 0
        shape = (self.planes, len(self.cache.samples), classes)
        return np.memmap(f"{self.stem}.posterior.f16", np.float16, mode, shape=shape)

    def _progress(self) -> tuple[int, int]:
        """(chunks that are finished, dimensions of the embeddings), (0, 0) at the start."""
        path = Path(f"{self.stem}.done.json")
        if not path.exists():
            return 0, 0
        state = json.loads(path.read_text())
        return state["done"], state["dim"]

    def _save(
        self,
        done: int,
        dim: int,
        embeddings: np.memmap[Any, Any],
        posterior: np.memmap[Any, Any] | None,
    ) -> None:
        """Arrays first: what done.json counts must be on the disk."""
        embeddings.flush()
        if posterior is not None:
            posterior.flush()
        state = json.dumps({"done": done, "dim": dim})
        write_atomically(Path(f"{self.stem}.done.json"), state.encode())

    def _rows(self, plane: int, start: int) -> NDArray[np.int64]:
        """The pictures of a chunk that the teacher sees in this plane."""
        samples = self.cache.samples
        end = min(start + CHUNK, len(samples))
        return np.array(
            [
                row
                for row in range(start, end)
                if not samples[row].partner
                and row not in self.twins
                and not (plane and samples[row].held_out)
            ],
            np.int64,
        )

    def _pictures(self, plane: int, rows: NDArray[np.int64]) -> NDArray[np.uint8]:
        views = np.array([self._view(plane, int(row)) for row in rows], VIEW)
        return stack_views(self.cache.pictures, rows, views, self.recipe.input.cache_size)

    def _view(self, plane: int, row: int) -> np.void:
        """What the teacher sees: all that the student sees, its crop and flip, or the whole."""
        sees = self.recipe.targets.teacher_sees
        if self.views is None or self.cache.samples[row].held_out or sees == "whole":
            return whole_picture()
        view = self.views[plane, row]
        return view if sees == "all" else geometry_of(view)


def _use_genuine(recipe: Recipe, cache: PictureCache, embeddings: NDArray[np.float16]) -> None:
    """Overwrite (in memory) the rows of sources that bring genuine embeddings of their own."""
    for number, source in enumerate(recipe.data):
        if not source.targets:
            continue
        rows, index = _read_genuine(source)
        if rows.shape[1] != embeddings.shape[2]:
            raise ConfigError(
                f"{source.targets}: embeddings of {rows.shape[1]} numbers, the teacher's have "
                f"{embeddings.shape[2]}",
                "these are two text spaces",
            )
        for row, sample in enumerate(cache.samples):
            if sample.source != number:
                continue
            name = sample.key.split("/", 1)[1]
            if name not in index:
                raise DataError(
                    f"{source.targets}: no embedding for {name}", "list it or remove the picture"
                )
            embeddings[:, row] = rows[index[name]]


def _read_genuine(source: SourceRecipe) -> tuple[NDArray[np.float32], dict[str, int]]:
    """(embeddings (N, D) of unit norm, row of each file name). Raises NoInputError, DataError."""
    try:
        with np.load(source.targets, allow_pickle=False) as archive:
            rows = unit(archive["image_embeddings"])
            index = {str(name): row for row, name in enumerate(archive["file_name"])}
    except FileNotFoundError as error:
        raise NoInputError(
            f"{source.targets}: no such file", f"check 'targets' of '{source.name}'"
        ) from error
    except (ValueError, KeyError, OSError) as error:
        raise DataError(
            f"{source.targets}: needs image_embeddings and file_name ({error})"
        ) from error
    return rows, index
