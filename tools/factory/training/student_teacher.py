"""The teacher of a recipe, which may be the student of an earlier run."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from tools.factory.data.pictures import preprocessor
from tools.factory.recipe import Recipe, TeacherRecipe
from tools.factory.students.student import to_pixels
from tools.factory.teachers.load import load_teacher
from tools.factory.teachers.teacher import Pictures, Teacher
from tools.factory.text.rows import known_rows
from tools.factory.text.sentence_map import SentenceMap
from tools.factory.training.run_folder import load_run


class StudentTeacher:
    """The student of an earlier run as a teacher.

    EdgeVL uses it: the student that knows colour pictures teaches itself infrared ones.
    """

    def __init__(
        self, folder: Path, text: Callable[[TeacherRecipe], Teacher], *, batch: int = 64
    ) -> None:
        """`text` makes the teacher that the run itself had, for the phrases."""
        recipe, self._student, self.text_space = load_run(folder)
        self._text = text(recipe.teacher)
        self._prepare = preprocessor(recipe.input, recipe.input.size)
        self._batch = batch

    @torch.no_grad()
    def image_embeddings(self, pictures: Pictures) -> NDArray[np.float32]:
        """As `Teacher.image_embeddings`."""
        parts = []
        for start in range(0, len(pictures), self._batch):
            batch = pictures[start : start + self._batch]
            # The runtime's preprocessing takes BGR; copied, because it overwrites its result.
            views = [self._prepare(picture[..., ::-1])[0].copy() for picture in batch]
            pixels = to_pixels(np.stack(views), torch.device("cpu"))
            parts.append(self._student(pixels).numpy())
        return np.concatenate(parts)

    def text_embeddings(self, phrases: Sequence[str]) -> NDArray[np.float32]:
        """As `Teacher.text_embeddings`, by the run's own teacher."""
        return self._text.text_embeddings(phrases)


def make_teacher(recipe: Recipe) -> Teacher:
    """The teacher of a recipe."""
    return teacher_of(recipe.teacher)


def teacher_of(recipe: TeacherRecipe) -> Teacher:
    """Make a teacher; the offline one gets a sentence encoder for phrases its bank does not hold.

    "run:FOLDER" is the student of an earlier run, with the text tower of its own teacher.
    """
    if recipe.name.startswith("run:"):
        return StudentTeacher(Path(recipe.name.removeprefix("run:")), teacher_of)
    weights = Path(recipe.weights)
    return load_teacher(
        recipe.name,
        weights=weights,
        members=recipe.members,
        words=recipe.words,
        text=lambda phrases: _estimated(weights, recipe.words, tuple(phrases)),
    )


@functools.cache
def _estimated(
    weights: Path, words: tuple[str, ...], phrases: tuple[str, ...]
) -> NDArray[np.float32]:
    """Rows of the sentence map. Many runs of one process ask for the same phrases."""
    return _sentence_map(weights, words)(phrases)


@functools.cache
def _sentence_map(weights: Path, words: tuple[str, ...]) -> SentenceMap:
    """Fitted on first use: most phrases have genuine rows, and a fit takes half a minute."""
    return SentenceMap(known_rows(weights, words))
