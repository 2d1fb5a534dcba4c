"""The text side of training: a row for every label and condition, and the bank of sentences."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge_runtime.errors import ConfigError, DataError, NoInputError
from edge_runtime.model.labels.text_bank import TextBank
from tools.factory.data import conditions
from tools.factory.data.pictures import PictureCache
from tools.factory.recipe import BankRecipe, SourceRecipe
from tools.factory.teachers.teacher import Teacher, check_text_space, unit

OF_TEACHER = "teacher"  # bank.path: the rows that the teacher knows


@dataclass(frozen=True)
class Texts:
    """rows: (V, D) float32, one per distinct set of prompts of a group; of_sample: (N,) row of each
    picture, or -1.

    names: a prompt for each row; groups: (V,) the group each row competes in; conditions: (C, D)
    float32 in the order of conditions.NAMES.
    """

    rows: NDArray[np.float32]
    names: list[str]
    groups: NDArray[np.int64]
    of_sample: NDArray[np.int64]
    conditions: NDArray[np.float32]


def embed_texts(teacher: Teacher, sources: tuple[SourceRecipe, ...], cache: PictureCache) -> Texts:
    """Embed every label's prompts and every condition's; several prompts are averaged and
    normalised again."""
    vocabulary: dict[tuple[str, tuple[str, ...]], int] = {}
    of_sample = np.full(len(cache.samples), -1, np.int64)
    for i, sample in enumerate(cache.samples):
        if sample.prompts:
            key = (sources[sample.source].group, sample.prompts)
            of_sample[i] = vocabulary.setdefault(key, len(vocabulary))
    numbers = {
        group: number for number, group in enumerate(sorted({group for group, _ in vocabulary}))
    }
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
        if recipe.path == OF_TEACHER:
            rows = _rows_of(teacher)
        elif path.suffix == ".txt":
            rows = unit(teacher.text_embeddings(_read_phrases(path)))
        else:
            check_text_space(teacher, recipe.text_space, str(path))
            rows = unit(np.load(path, allow_pickle=False))
    except OSError as error:
        raise NoInputError(f"{path}: {error.strerror or error}", "check bank.path") from error
    except ValueError as error:
        raise DataError(f"{path}: not an .npy of embeddings ({error})") from error
    if rows.ndim != 2:
        raise DataError(f"{path}: shape {rows.shape}, should be (sentences, dim)")

    rows = np.unique(rows, axis=0)
    if recipe.limit and len(rows) > recipe.limit:
        spread = np.linspace(0, len(rows) - 1, recipe.limit).round().astype(int)
        rows = rows[spread]
    return rows


def _rows_of(teacher: Teacher) -> NDArray[np.float32]:
    bank = getattr(teacher, "bank", None)
    if not isinstance(bank, TextBank):
        raise ConfigError(
            "bank.path: this teacher has no rows of its own", "name an .npy or a .txt of phrases"
        )
    return unit(bank.rows)


def _read_phrases(path: Path) -> list[str]:
    """One a line, sorted, without comments. Raises DataError when there are none."""
    lines = {line.strip() for line in path.read_text(encoding="utf-8").splitlines()}
    phrases = sorted(line for line in lines if line and not line.startswith("#"))
    if not phrases:
        raise DataError(f"{path}: no phrases", "write one a line")
    return phrases
