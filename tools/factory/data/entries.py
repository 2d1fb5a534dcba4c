"""What one entry of a recipe stands for: a glob, a label of weather.csv, or a synthetic condition.

Recipes that say which pictures show which label (calibration.yaml, taught.yaml) are lists of these.
"""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge_runtime.camera.pictures import read_picture
from edge_runtime.errors import DataError, NoInputError
from tools.factory.data import conditions
from tools.factory.data.samples import SUFFIXES
from tools.lib.paths import RECIPES

Entry = str | dict[str, str]
PACK = "distill"  # where the pictures of weather.csv lie

# Pictures are in five parts, by their file names alone. Three teach rows of the text bank, one
# calibrates label sets, and one is only ever asked about.
PARTS = 5
TEACH = frozenset({0, 1, 2})
CALIBRATE = frozenset({3})
ASK = frozenset({4})
ALL = TEACH | CALIBRATE | ASK


def part_of(file: str, parts: int = PARTS) -> int:
    """The part of a picture, by its path below the data folder alone."""
    return hashlib.sha256(file.encode()).digest()[0] % parts


def files_of_entry(entry: Entry, data: Path, most: int, parts: frozenset[int] = ALL) -> list[Path]:
    """The picture files of an entry, at most so many, spread evenly. Raises NoInputError.

    An entry with pictures may have none in some parts.
    """
    found = _all_files(entry, data)
    files = [file for file in found if part_of(file.relative_to(data).as_posix()) in parts]
    if not found:
        raise NoInputError(
            f"{data}: no pictures for {entry}",
            "unzip distill.zip and second.zip there, side by side",
        )
    return evenly(files, most)


def evenly(files: Sequence[Path], most: int) -> list[Path]:
    """At most so many of the files, evenly spread."""
    rows = np.linspace(0, len(files) - 1, min(most, len(files))).round().astype(int)
    return [files[row] for row in rows]


def pictures_of_files(entry: Entry, files: Sequence[Path]) -> list[NDArray[np.uint8]]:
    """The pictures (BGR) of an entry's files, under its condition if it has one."""
    if isinstance(entry, dict) and "condition" in entry:
        return condition_pictures(files, entry["condition"])
    return [read_picture(file) for file in files]


def rgb(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """BGR or one channel -> RGB."""
    return picture[..., ::-1] if picture.ndim == 3 else np.repeat(picture[..., None], 3, axis=2)


def _all_files(entry: Entry, data: Path) -> list[Path]:
    if isinstance(entry, dict) and "weather" in entry:
        with (RECIPES / "weather.csv").open(newline="", encoding="utf-8") as table:
            rows = list(csv.DictReader(table))
        return [data / PACK / row["file"] for row in rows if row["label"] == entry["weather"]]

    return matching(entry if isinstance(entry, str) else entry["of"], data)


def matching(pattern: str, data: Path) -> list[Path]:
    """The picture files below the data folder that a glob finds, sorted."""
    return sorted(path for path in data.glob(pattern) if path.suffix.lower() in SUFFIXES)


def condition_pictures(files: Sequence[Path], name: str) -> list[NDArray[np.uint8]]:
    """Pictures under a synthetic condition, BGR.

    The strength is drawn by the picture's place in the list, so that a second call draws the same.
    """
    if name not in conditions.CONDITIONS:
        names = ", ".join(conditions.CONDITIONS)
        raise DataError(f"no condition '{name}'", f"there are {names}")
    apply = conditions.CONDITIONS[name]

    pictures = []
    for number, file in enumerate(files):
        rng = np.random.default_rng(number)
        picture = np.ascontiguousarray(rgb(read_picture(file)))
        changed = apply(picture, rng.uniform(0.4, 1.0), rng)
        pictures.append(np.ascontiguousarray(changed[..., ::-1]))
    return pictures
