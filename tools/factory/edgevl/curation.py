"""Curation of unlabelled pairs of pictures, EdgeVL's first step.

Pairs are found and split. The teacher labels every colour picture zero-shot over a broad superset
of labels, and only confident pairs are kept for training.
"""

from __future__ import annotations

import csv
import io
import os
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from edge_runtime.errors import DataError, NoInputError
from edge_runtime.model.labels.label_set import parse_label_set
from edge_runtime.system.strict_yaml import read_text
from tools.factory.data.pictures import decode
from tools.factory.data.samples import SUFFIXES
from tools.factory.teachers.teacher import Teacher, unit

TEMPLATES = ("a photo of a {}",)
LOGIT_SCALE = 100.0  # CLIP's own
BATCH = 64
# Neighbours in the file order look alike, so the pairs of a source are cut into RUNS runs, and a
# whole run goes into one part. Otherwise the test pairs would be almost the training pairs.
RUNS = 24
# The parts of successive runs, over and over.
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
    """A colour picture and, if there is one, its infrared or depth partner.

    split: train, validation or test.
    """

    file: Path
    partner: Path | None
    modality: str
    split: str
    label: str = ""
    confidence: float = 0.0


def load_superset(path: Path, teacher: Teacher) -> Superset:
    """Embed a label set file: a label is the normalised mean of its prompts.

    The groups of the file are ignored.
    """
    label_set = parse_label_set(read_text(path, "label superset"), str(path))
    labels = label_set.labels
    prompts = [label_set.prompts(label, TEMPLATES) for label in labels]
    flat = [prompt for own in prompts for prompt in own]
    rows = unit(teacher.text_embeddings(flat))

    ends = np.cumsum([len(own) for own in prompts])
    means = np.stack([part.mean(0) for part in np.split(rows, ends[:-1])])
    return Superset([label.name for label in labels], unit(means))


def find_pairs(rgb: Path, partner: Path | None, modality: str) -> list[Pair]:
    """Pictures of a folder in name order, with the picture of the same stem in `partner`.

    Raises NoInputError for a missing folder, DataError when there is no pair.
    """
    colour = _by_stem(rgb)
    if partner is None:
        chosen: list[tuple[Path, Path | None]] = [(file, None) for file in colour.values()]
    else:
        other = _by_stem(partner)
        chosen = [(file, other[stem]) for stem, file in colour.items() if stem in other]
        if not chosen:
            raise DataError(
                f"{rgb} and {partner}: no two files share a stem",
                "a pair is x/NAME.jpg and y/NAME.png",
            )

    pairs = []
    for number, (file, other_file) in enumerate(chosen):
        split = _split_of(number, len(chosen))
        pairs.append(Pair(file, other_file, modality if other_file else "", split))
    return pairs


def _split_of(number: int, count: int) -> str:
    """The part of a pair: runs of neighbours go together, part by part in turn."""
    run = number * min(RUNS, count) // count
    return SPLIT[run % len(SPLIT)]


def _by_stem(folder: Path) -> dict[str, Path]:
    if not folder.is_dir():
        raise NoInputError(f"{folder}: no such folder of pictures")
    files = {
        path.stem: path for path in sorted(folder.iterdir()) if path.suffix.lower() in SUFFIXES
    }
    if not files:
        raise DataError(f"{folder}: no pictures in it ({', '.join(sorted(SUFFIXES))})")
    return files


def pseudo_label(
    pairs: list[Pair], teacher: Teacher, superset: Superset, *, quiet: bool = False
) -> list[Pair]:
    """Label every colour picture with the best of softmax(LOGIT_SCALE * cosine) and its value.

    Pictures that cannot be read are named on standard error and skipped. Raises DataError when none
    can be read.
    """
    labelled = []
    for start in tqdm(range(0, len(pairs), BATCH), desc="label", unit="batch", disable=quiet):
        readable = []
        pictures = []
        for pair in pairs[start : start + BATCH]:
            try:
                picture = decode(pair.file.read_bytes())
            except (OSError, ValueError) as error:
                print(f"curate: {pair.file}: skipped ({error})", file=sys.stderr)
                continue
            pictures.append(np.ascontiguousarray(picture[..., ::-1]))
            readable.append(pair)
        if not readable:
            continue

        logits = LOGIT_SCALE * teacher.image_embeddings(pictures) @ superset.rows.T
        posterior = np.exp(logits - logits.max(1, keepdims=True))
        posterior /= posterior.sum(1, keepdims=True)
        for pair, row in zip(readable, posterior, strict=True):
            best = int(row.argmax())
            confidence = round(float(row[best]), 4)
            labelled.append(replace(pair, label=superset.names[best], confidence=confidence))
    if not labelled:
        raise DataError("none of the pictures can be read")
    return labelled


def keep_confident(pairs: list[Pair], share: float) -> list[Pair]:
    """Drop the least confident training pictures; all validation and test pictures stay.

    Dropping those too would make the task look easier than it is.
    """
    confidences = sorted((pair.confidence for pair in pairs if pair.split == "train"), reverse=True)
    if not confidences:
        return pairs
    floor = confidences[max(1, round(share * len(confidences))) - 1]
    return [pair for pair in pairs if pair.split != "train" or pair.confidence >= floor]


def to_csv(pairs: list[Pair], folder: Path) -> str:
    """The list as CSV, its paths relative to `folder`."""
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow(COLUMNS)
    for pair in pairs:
        file = os.path.relpath(pair.file, folder)
        partner = os.path.relpath(pair.partner, folder) if pair.partner else ""
        writer.writerow((file, partner, pair.modality, pair.label, pair.confidence, pair.split))
    return out.getvalue()
