"""Pairs of pictures without labels: found, labelled by the teacher, split, and the confident ones
kept.

EdgeVL's first step: the teacher labels every colour picture zero-shot over a broad superset of
labels."""

from __future__ import annotations

import csv
import io
import os
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from edge_runtime.errors import DataError, NoInputError
from edge_runtime.model.labels import parse_label_set
from edge_runtime.strict_yaml import read_text
from tools.factory.data.pictures import decode
from tools.factory.data.samples import SUFFIXES
from tools.factory.teachers.teacher import Teacher, unit

TEMPLATES = ("a photo of a {}",)
LOGIT_SCALE = 100.0
# neighbours in the file order look alike: they go into the same part, RUNS parts of a source
RUNS = 24
# run by run, in turn
SPLIT = (
    "train",
    "test",
    "train",
    "train",
    "validation",
    "train",
    "test",
    "train",
)
COLUMNS = ("file", "partner", "modality", "label", "confidence", "split")


@dataclass(frozen=True)
class Superset:
    """Labels to choose from: `names` and their rows (len(names), D) float32, unit norm."""

    names: list[str]
    rows: NDArray[np.float32]


@dataclass(frozen=True)
class Pair:
    """A colour picture and, if there is one, its infrared or depth partner. split: train,
    validation or test."""

    file: Path
    partner: Path | None
    modality: str
    split: str
    label: str = ""
    confidence: float = 0.0


def load_superset(path: Path, teacher: Teacher) -> Superset:
    """Embed a label set file: a label is the normalised mean of its prompts. Groups mean nothing
    here."""
    labels = parse_label_set(read_text(path, "label superset"), str(path))
    prompts = [labels.prompts(label, TEMPLATES) for label in labels.labels]
    rows = unit(teacher.text_embeddings([prompt for group in prompts for prompt in group]))
    ends = np.cumsum([len(group) for group in prompts])
    return Superset(
        [x.name for x in labels.labels],
        unit(np.stack([r.mean(0) for r in np.split(rows, ends[:-1])])),
    )


def find_pairs(rgb: Path, partner: Path | None, modality: str) -> list[Pair]:
    """Pictures of a folder, in name order, with those of the same stem in `partner`; each has its
    split.

    Raises NoInputError for a missing folder, DataError when nothing is left.
    """
    colour = _by_stem(rgb)
    if partner is None:
        chosen: list[tuple[Path, Path | None]] = [(file, None) for file in colour.values()]
    else:
        other = _by_stem(partner)
        chosen = [(file, other[stem]) for stem, file in colour.items() if stem in other]
        if not chosen:
            raise DataError(
                f"{rgb} and {partner}: no two files share a stem; a pair is x/NAME.jpg and y/NAME.png"
            )
    count = len(chosen)
    parts = [SPLIT[i * min(RUNS, count) // count % len(SPLIT)] for i in range(count)]
    return [
        Pair(f, p, modality if p else "", split)
        for (f, p), split in zip(chosen, parts, strict=True)
    ]


def _by_stem(folder: Path) -> dict[str, Path]:
    if not folder.is_dir():
        raise NoInputError(f"{folder}: no such folder of pictures")
    found = {p.stem: p for p in sorted(folder.iterdir()) if p.suffix.lower() in SUFFIXES}
    if not found:
        raise DataError(f"{folder}: no pictures in it ({', '.join(sorted(SUFFIXES))})")
    return found


def pseudo_label(
    pairs: list[Pair], teacher: Teacher, superset: Superset, *, quiet: bool = False
) -> list[Pair]:
    """Label every colour picture: the best of softmax(100 cos), and how sure it is. Unreadable ones
    are left out."""
    labelled = []
    for start in tqdm(range(0, len(pairs), 64), desc="label", unit="batch", disable=quiet):
        readable = []
        pictures = []
        for pair in pairs[start : start + 64]:
            try:
                pictures.append(np.ascontiguousarray(decode(pair.file.read_bytes())[..., ::-1]))
                readable.append(pair)
            except (OSError, ValueError) as error:
                print(f"curate: {pair.file}: left out ({error})", file=sys.stderr)
        if not readable:
            continue
        logits = LOGIT_SCALE * teacher.image_embeddings(pictures) @ superset.rows.T
        posterior = np.exp(logits - logits.max(1, keepdims=True))
        posterior /= posterior.sum(1, keepdims=True)
        for pair, row in zip(readable, posterior, strict=True):
            best = int(row.argmax())
            sure = round(float(row[best]), 4)
            labelled.append(
                Pair(
                    pair.file,
                    pair.partner,
                    pair.modality,
                    pair.split,
                    superset.names[best],
                    confidence=sure,
                )
            )
    if not labelled:
        raise DataError("none of the pictures can be read")
    return labelled


def keep_confident(pairs: list[Pair], share: float) -> list[Pair]:
    """Drop the least confident training pictures; validation and test pictures stay, all of
    them."""
    train = sorted((p.confidence for p in pairs if p.split == "train"), reverse=True)
    if not train:
        return pairs
    floor = train[max(1, round(share * len(train))) - 1]
    return [p for p in pairs if p.split != "train" or p.confidence >= floor]


def to_csv(pairs: list[Pair], folder: Path) -> str:
    """The list as CSV, its paths relative to `folder`."""
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow(COLUMNS)
    for p in pairs:
        partner = os.path.relpath(p.partner, folder) if p.partner else ""
        writer.writerow(
            (os.path.relpath(p.file, folder), partner, p.modality, p.label, p.confidence, p.split)
        )
    return out.getvalue()
