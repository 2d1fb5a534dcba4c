"""Labelled pictures to score on: a folder or .zip with a classes.json, or with one sub-folder for
each class."""

from __future__ import annotations

import json
import tempfile
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from edge_runtime.camera.pictures import read_picture
from edge_runtime.errors import DataError, NoInputError, UsageError
from tools.factory.data.samples import SUFFIXES
from tools.factory.evaluation.subject import PictureEncoder


@dataclass(frozen=True)
class LabelledSet:
    """files[i] shows classes[truth[i]]; phrases[c] is the text of class c."""

    name: str
    classes: list[str]
    phrases: list[str]
    files: list[Path]
    truth: NDArray[np.int64]


@contextmanager
def open_data(path: Path) -> Iterator[Path]:
    """The folder with the pictures; a .zip is unpacked for as long as it is needed."""
    if path.suffix != ".zip":
        if not path.is_dir():
            raise NoInputError(
                f"{path}: no such folder or .zip", "give labelled pictures with --data"
            )
        yield path
        return
    with tempfile.TemporaryDirectory() as folder:
        try:
            with zipfile.ZipFile(path) as archive:
                # Safe: zipfile itself drops ".." and the root from the names in an archive.
                archive.extractall(folder)
        except FileNotFoundError as error:
            raise NoInputError(
                f"{path}: no such folder or .zip", "give labelled pictures with --data"
            ) from error
        except (zipfile.BadZipFile, OSError) as error:
            raise DataError(f"{path}: cannot unpack ({error})") from error

        # An archive often holds one folder with everything in it.
        index = next(iter(sorted(Path(folder).rglob("classes.json"))), None)
        yield index.parent if index else Path(folder)


def labelled_sets(root: Path, prompt: str, only: Sequence[str]) -> list[LabelledSet]:
    """The sets of a folder, as classes.json says, or the folder itself as one set.

    Raises DataError, UsageError.
    """
    index = root / "classes.json"
    if index.is_file():
        entries = _read_index(index)
        unknown = set(only) - set(entries)
        if unknown:
            raise DataError(f"{index}: has {', '.join(entries)}, not {', '.join(unknown)}")
        names = [name for name in entries if not only or name in only]
        return [_labelled_set(root / name, name, entries[name]) for name in names]

    if only:
        raise UsageError(f"--set: {root} has no classes.json, so it is one set", "leave --set out")
    classes = sorted(path.name for path in root.iterdir() if path.is_dir())
    return [_labelled_set(root, root.name, {"classes": classes, "prompt": prompt})]


def _read_index(index: Path) -> dict[str, Any]:
    """The sets of classes.json that have classes. Raises DataError."""
    try:
        entries = json.loads(index.read_text(encoding="utf-8"))
        return {name: entry for name, entry in entries.items() if entry.get("classes")}
    except (ValueError, AttributeError) as error:
        raise DataError(f"{index}: not a mapping of sets ({error})") from error


def _labelled_set(root: Path, name: str, entry: dict[str, Any]) -> LabelledSet:
    texts = entry.get("label_to_text", {})
    prompt = entry.get("prompt", "a photo of a {}")
    files: list[Path] = []
    truth: list[int] = []
    for number, label in enumerate(entry["classes"]):
        pictures = sorted(p for p in (root / label).glob("*") if p.suffix.lower() in SUFFIXES)
        if not pictures:
            raise DataError(
                f"{root / label}: no pictures of class '{label}'", "remove the class or add some"
            )
        files += pictures
        truth += [number] * len(pictures)
    if not files:
        raise DataError(f"{root}: no folder with pictures", "make one folder for each class")
    phrases = [
        texts.get(label) or prompt.format(label.replace("_", " ")) for label in entry["classes"]
    ]
    return LabelledSet(name, list(entry["classes"]), phrases, files, np.array(truth))


def embed_files(encode: PictureEncoder, files: Sequence[Path], what: str) -> NDArray[np.float32]:
    """Embeddings (N, dim) of picture files."""
    return np.stack(
        [encode(read_picture(path)) for path in tqdm(files, desc=what, unit="pic", leave=False)]
    )
