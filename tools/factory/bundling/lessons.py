"""The pictures that teach rows of the text bank: taught.yaml as embeddings and answers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray
from tqdm import tqdm

from edge_runtime.errors import ConfigError
from edge_runtime.model.labels.phrases import bare, normalise
from tools.factory.data.entries import ALL, Entry, files_of_entry, pictures_of_files
from tools.factory.evaluation.subject import PictureEncoder
from tools.lib.paths import RECIPES

RECIPE = RECIPES / "taught.yaml"
MOST = 100  # pictures an entry
FEW = 20  # fewer pictures of a name than this count less

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Lesson:
    """Names that are told apart, and pictures of them.

    Attributes:
        phrases: name -> its phrases, as the bank spells them.
        files: one a picture, below the data folder.
        pictures: embeddings (pictures, dim).
        shows: (pictures, names + 1), which of the names one of which a picture shows; the last
            column is none of them.
        entries: (pictures,), the number of the recipe's entry that a picture is from.
    """

    group: str
    phrases: dict[str, tuple[str, ...]]
    files: tuple[str, ...]
    pictures: Floats
    shows: NDArray[np.bool_]
    entries: NDArray[np.intp]

    @property
    def names(self) -> list[str]:
        """In the order of the columns of `shows`."""
        return list(self.phrases)

    @property
    def single(self) -> NDArray[np.bool_]:
        """(pictures,): which of them show one name and no doubt."""
        return np.asarray(self.shows[:, :-1].sum(axis=1) == 1)

    def chosen(self, keep: NDArray[np.bool_]) -> Lesson:
        """The lesson with a part of its pictures."""
        files = tuple(file for file, kept in zip(self.files, keep, strict=True) if kept)
        return Lesson(
            self.group,
            self.phrases,
            files,
            self.pictures[keep],
            self.shows[keep],
            self.entries[keep],
        )

    def weights(self) -> Floats:
        """(pictures,): what may be answered alike counts one in all, its entries the same each."""
        _, cases = np.unique(self.shows, axis=0, return_inverse=True)
        weights = np.zeros(len(cases))
        for case in np.unique(cases):
            rows = np.flatnonzero(cases.ravel() == case)
            entries = np.unique(self.entries[rows])
            share = min(1.0, len(rows) / FEW) / len(entries)
            for entry in entries:
                own = rows[self.entries[rows] == entry]
                weights[own] = share / len(own)
        return weights


def read_recipe(path: Path = RECIPE) -> dict[str, dict[str, Any]]:
    """group -> name -> phrases and pictures. Raises ConfigError for a phrase taught twice."""
    recipe: dict[str, dict[str, Any]] = yaml.safe_load(path.read_text(encoding="utf-8"))
    taught: set[str] = set()
    for group in recipe.values():
        for name, own in names_of(group):
            for phrase in phrases_of(own):
                if phrase in taught:
                    raise ConfigError(f"{path}: '{phrase}' is taught twice, again by '{name}'")
                taught.add(phrase)
    return recipe


def names_of(group: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """The names of a group with what the recipe says of each."""
    return ((name, own) for name, own in group.items() if name not in ("several", "none"))


def phrases_of(own: dict[str, Any]) -> tuple[str, ...]:
    """The phrases of a name as the bank spells them."""
    return tuple(bare(normalise(phrase)) for phrase in own["phrases"])


def load_lessons(
    recipe: dict[str, dict[str, Any]],
    data: Path,
    encode: PictureEncoder,
    parts: frozenset[int] = ALL,
) -> list[Lesson]:
    """Every group's pictures of these parts, read and embedded.

    Raises NoInputError for an entry without any picture.
    """
    return [_lesson(name, group, data, encode, parts) for name, group in recipe.items()]


def _lesson(
    group: str, said: dict[str, Any], data: Path, encode: PictureEncoder, parts: frozenset[int]
) -> Lesson:
    phrases = {name: phrases_of(own) for name, own in names_of(said)}
    columns = {name: column for column, name in enumerate(phrases)}
    files: list[str] = []
    pictures: list[NDArray[np.float32]] = []
    shows: list[NDArray[np.bool_]] = []
    entries: list[int] = []

    listed = list(enumerate(_entries(said)))
    for number, (names, entry) in tqdm(listed, desc=group, unit="entry", leave=False):
        row = np.zeros(len(phrases) + 1, bool)
        row[[columns[name] for name in names] if names else [len(phrases)]] = True
        found = files_of_entry(entry, data, MOST, parts)
        pictures += [encode(picture) for picture in pictures_of_files(entry, found)]
        files += [file.relative_to(data).as_posix() for file in found]
        shows += [row] * len(found)
        entries += [number] * len(found)
    embeddings = np.stack(pictures).astype(np.float64)
    return Lesson(group, phrases, tuple(files), embeddings, np.stack(shows), np.array(entries))


def _entries(said: dict[str, Any]) -> Iterator[tuple[list[str], Entry]]:
    """(the names one of which its pictures show, entry); no name where it shows none of them."""
    for name, own in names_of(said):
        for entry in own["pictures"]:
            yield [name], entry
    for several in said.get("several", []):
        for entry in several["pictures"]:
            yield several["of"], entry
    for entry in said.get("none", []):
        yield [], entry
