"""Scores of a subject on labelled sets, and how much of a genuine teacher is left."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from edge_runtime.errors import ConfigError, DataError
from tools.factory.evaluation import metrics
from tools.factory.evaluation.labelled import LabelledSet, embed_files
from tools.factory.evaluation.report import draw_set
from tools.factory.evaluation.subject import WEIGHTS, Subject, TextRows
from tools.factory.teachers.teacher import unit

PAIRS = WEIGHTS / "clip_vitb32_cifar10_pairs.npz"


CIFAR10 = (
    "airplane",
    "automobile",
    "bird",
    "cat",
    "deer",
    "dog",
    "frog",
    "horse",
    "ship",
    "truck",
)


def score(
    cosines: NDArray[np.float32], truth: NDArray[np.int64], logit_scale: float
) -> dict[str, float]:
    """top1, top5, auc, ece of cosines (N, classes)."""
    return {
        "top1": round(metrics.top_k(cosines, truth, 1), 4),
        "top5": round(metrics.top_k(cosines, truth, 5), 4),
        "auc": round(metrics.macro_auc(cosines, truth), 4),
        "ece": round(
            metrics.calibration_error(metrics.probabilities(cosines, logit_scale), truth), 4
        ),
    }


def evaluate(
    subject: Subject, sets: Sequence[LabelledSet], pairs: Path | None, output: Path | None
) -> dict[str, Any]:
    """All scores as one dictionary; draws the pictures into `output`.

    pairs: teacher embeddings for the retention, where there are any.
    """
    texts = TextRows(subject)
    entries = {labelled.name: _score_set(subject, texts, labelled, output) for labelled in sets}
    report: dict[str, Any] = {
        "subject": subject.name,
        "text_space": subject.text_space,
        "logit_scale": subject.logit_scale,
        "sets": entries,
        "mean_top1": {},
    }
    for column in subject.encoders:
        top1 = [entry[column]["top1"] for entry in entries.values()]
        report["mean_top1"][column] = round(float(np.mean(top1)), 4)
    if pairs:
        report["retention"] = retention(subject, texts, pairs)
    return report


def _score_set(
    subject: Subject, texts: TextRows, labelled: LabelledSet, output: Path | None
) -> dict[str, Any]:
    rows, genuine = texts(labelled.phrases)
    entry: dict[str, Any] = {
        "pictures": len(labelled.files),
        "classes": len(labelled.classes),
        "approximate_texts": int((~genuine).sum()),
    }
    embeddings: dict[str, NDArray[np.float32]] = {}
    for column, encode in subject.encoders.items():
        embeddings[column] = embed_files(encode, labelled.files, f"{labelled.name} {column}")
        cosines = embeddings[column] @ rows.T
        entry[column] = score(cosines, labelled.truth, subject.logit_scale)

    # The first column is judged; the others are what it is compared with.
    judged, *others = embeddings
    cosines = embeddings[judged] @ rows.T
    if genuine.any() and not genuine.all():
        right = cosines.argmax(1) == labelled.truth
        has_genuine_text = genuine[labelled.truth]
        entry["top1_genuine_texts"] = round(float(right[has_genuine_text].mean()), 4)
        entry["top1_approximate_texts"] = round(float(right[~has_genuine_text].mean()), 4)
    for other in others:
        entry[f"cosine_{judged}_{other}"] = _mean_cosine(embeddings[judged], embeddings[other])
    if output:
        draw_set(cosines, labelled, subject.logit_scale, output)
    return entry


def _mean_cosine(first: NDArray[np.float32], second: NDArray[np.float32]) -> float:
    """Of paired unit rows."""
    return round(float((first * second).sum(1).mean()), 4)


def retention(subject: Subject, texts: TextRows, pairs: Path) -> dict[str, float]:
    """How much of a genuine teacher is left, on pictures whose teacher embeddings are stored.

    `pairs` holds images (N, H, W, 3) RGB, labels and image_embeddings; the classes are CIFAR-10's.
    retention = student's top-1 / teacher's. Cosines: as they are, and after each side's mean is
    taken away (the modality gap).
    """
    images, truth, teacher = _read_pairs(pairs)
    encode = next(iter(subject.encoders.values()))
    shown = tqdm(images, desc="pairs", leave=False)
    student = np.stack([encode(np.ascontiguousarray(image[..., ::-1])) for image in shown])
    if teacher.shape[1] != student.shape[1]:
        raise ConfigError(
            f"{pairs}: embeddings of {teacher.shape[1]} numbers, "
            f"{subject.name} gives {student.shape[1]}"
        )

    rows, _ = texts([f"a photo of a {name}" for name in CIFAR10])
    by_student = student @ rows.T
    by_teacher = teacher @ rows.T
    own = metrics.top_k(by_student, truth, 1)
    theirs = metrics.top_k(by_teacher, truth, 1)
    agreement = float((by_student.argmax(1) == by_teacher.argmax(1)).mean())
    centred = [unit(side - side.mean(0)) for side in (student, teacher)]
    return {
        "pictures": len(images),
        "student_top1": round(own, 4),
        "teacher_top1": round(theirs, 4),
        "retention": round(own / theirs, 4),
        "agreement": round(agreement, 4),
        "cosine": _mean_cosine(student, teacher),
        "centred_cosine": _mean_cosine(*centred),
    }


def _read_pairs(
    path: Path,
) -> tuple[NDArray[np.uint8], NDArray[np.int64], NDArray[np.float32]]:
    """(images, labels, teacher's embeddings of unit norm). Raises DataError."""
    try:
        with np.load(path, allow_pickle=False) as archive:
            embeddings = unit(archive["image_embeddings"])
            return archive["images"], archive["labels"], embeddings
    except (OSError, KeyError, ValueError) as error:
        raise DataError(f"{path}: needs images, labels and image_embeddings ({error})") from error
