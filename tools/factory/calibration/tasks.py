"""Zero-shot tasks to fit and to judge a calibration on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge_runtime.errors import DataError
from tools.factory.calibration.fits import Task, auroc
from tools.factory.data.samples import scan
from tools.factory.evaluation import metrics
from tools.factory.evaluation.labelled import embed_files, labelled_sets, open_data
from tools.factory.evaluation.subject import PictureEncoder, TextRows
from tools.factory.recipe import Recipe
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
    """One task a labelled source of the recipe, of the pictures that training has never seen."""
    tasks = []
    for source in recipe.data:
        if not (source.label or source.kind == "csv"):
            continue
        samples = [s for s in scan((source,), data) if s.prompts]
        classes = sorted({s.prompts for s in samples})
        chosen = [s for s in samples if s.held_out]
        if len(classes) < 2 or not chosen:
            continue
        every = np.linspace(0, len(chosen) - 1, min(MAX_PICTURES, len(chosen))).round().astype(int)
        chosen = [chosen[i] for i in every]
        rows, _ = texts([prompt for prompts in classes for prompt in prompts])
        ends = np.cumsum([len(prompts) for prompts in classes])
        text = unit(np.stack([part.mean(axis=0) for part in np.split(rows, ends[:-1])]))
        pictures = embed_files(encode, [s.file for s in chosen], source.name)
        truth = np.array([classes.index(s.prompts) for s in chosen])
        tasks.append(Task(source.name, (pictures @ text.T).astype(np.float64), truth))
    if not tasks:
        raise DataError(f"{data}: no labelled, held-out pictures of the recipe there")
    return tasks


def evaluation_tasks(encode: PictureEncoder, texts: TextRows, data: Path) -> list[Task]:
    """The sets of tools.evaluate, as tasks. For reporting only."""
    with open_data(data) as root:
        tasks = []
        for labelled in labelled_sets(root, "a photo of a {}", ()):
            rows, _ = texts(labelled.phrases)
            pictures = embed_files(encode, labelled.files, labelled.name)
            tasks.append(
                Task(labelled.name, (pictures @ rows.T).astype(np.float64), labelled.truth)
            )
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
