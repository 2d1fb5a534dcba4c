"""Zero-shot tasks to fit and to judge a calibration on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge_runtime.errors import DataError
from tools.factory.calibration.fits import Task, auroc
from tools.factory.data.entries import TEACH, part_of
from tools.factory.data.samples import scan
from tools.factory.evaluation import metrics
from tools.factory.evaluation.labelled import embed_files, labelled_sets, open_data
from tools.factory.evaluation.subject import PictureEncoder, TextRows
from tools.factory.recipe import Recipe, SourceRecipe
from tools.factory.teachers.teacher import unit

MAX_PICTURES = 250  # a task


def embed(encode: PictureEncoder, files: Sequence[Path], what: str) -> NDArray[np.float32]:
    """Embeddings (N, dim) of picture files. Raises DataError without pictures."""
    if not files:
        raise DataError(f"{what}: no pictures there")
    return embed_files(encode, files, what)


def held_out_tasks(
    encode: PictureEncoder, texts: TextRows, recipe: Recipe, data: Path
) -> list[Task]:
    """One task a labelled source of the recipe, of pictures that taught nothing."""
    labelled = [source for source in recipe.data if source.label or source.kind == "csv"]
    tasks = [_held_out_task(encode, texts, source, data) for source in labelled]
    useful = [task for task in tasks if task]
    if not useful:
        raise DataError(f"{data}: no labelled, held-out pictures of the recipe there")
    return useful


def _held_out_task(
    encode: PictureEncoder, texts: TextRows, source: SourceRecipe, data: Path
) -> Task | None:
    """None where the source holds nothing out or knows fewer than two classes."""
    samples = [sample for sample in scan((source,), data) if sample.prompts]
    classes = sorted({sample.prompts for sample in samples})
    # Pictures that taught rows of the bank would look too easy.
    held_out = [
        sample
        for sample in samples
        if sample.held_out and part_of(sample.file.relative_to(data).as_posix()) not in TEACH
    ]
    if len(classes) < 2 or not held_out:
        return None

    count = min(MAX_PICTURES, len(held_out))
    spread = np.linspace(0, len(held_out) - 1, count).round().astype(int)
    chosen = [held_out[row] for row in spread]
    pictures = embed_files(encode, [sample.file for sample in chosen], source.name)
    truth = np.array([classes.index(sample.prompts) for sample in chosen])
    cosines = pictures @ _class_rows(texts, classes).T
    return Task(source.name, cosines.astype(np.float64), truth)


def _class_rows(texts: TextRows, classes: list[tuple[str, ...]]) -> NDArray[np.float32]:
    """(classes, dim): the mean of the rows of each class's prompts, made unit norm again."""
    flat = [prompt for prompts in classes for prompt in prompts]
    rows, _ = texts(flat)
    ends = np.cumsum([len(prompts) for prompts in classes])
    return unit(np.stack([part.mean(axis=0) for part in np.split(rows, ends[:-1])]))


def evaluation_tasks(encode: PictureEncoder, texts: TextRows, data: Path) -> list[Task]:
    """The sets of tools.evaluate, as tasks. For reporting only."""
    tasks = []
    with open_data(data) as root:
        for labelled in labelled_sets(root, "a photo of a {}", ()):
            rows, _ = texts(labelled.phrases)
            pictures = embed_files(encode, labelled.files, labelled.name)
            cosines = (pictures @ rows.T).astype(np.float64)
            tasks.append(Task(labelled.name, cosines, labelled.truth))
    return tasks


def known_against_unknown(task: Task, scale: float) -> dict[str, float]:
    """AUROC of pictures whose class is in the label set against pictures whose class is not.

    Every second class is known. ``probability``: the winner's score; ``margin``: its distance to
    the second; ``cosine``: its raw cosine. Empty without pictures of both kinds and two known
    classes.
    """
    known_classes = np.arange(0, task.cosines.shape[1], 2)
    known = np.isin(task.truth, known_classes)
    if len(known_classes) < 2 or known.all() or not known.any():
        return {}
    cosines = task.cosines[:, known_classes]
    probability = metrics.probabilities(cosines, scale)
    best = np.sort(probability, axis=1)
    scores = {
        "probability": best[:, -1],
        "margin": best[:, -1] - best[:, -2],
        "cosine": cosines.max(axis=1),
    }
    return {name: round(auroc(score[known], score[~known]), 3) for name, score in scores.items()}
