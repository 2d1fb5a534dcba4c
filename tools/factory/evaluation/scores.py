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
    """All scores as one dictionary; draws the pictures into `output`."""
    texts = TextRows(subject)
    report: dict[str, Any] = {
        "subject": subject.name,
        "text_space": subject.text_space,
        "logit_scale": subject.logit_scale,
        "sets": {},
    }
    for labelled in sets:
        rows, genuine = texts(labelled.phrases)
        entry: dict[str, Any] = {
            "pictures": len(labelled.files),
            "classes": len(labelled.classes),
            "approximate_texts": int((~genuine).sum()),
        }
        embeddings: dict[str, NDArray[np.float32]] = {}
        for column, encode in subject.encoders.items():
            found = embeddings[column] = embed_files(
                encode, labelled.files, f"{labelled.name} {column}"
            )
            entry[column] = score(found @ rows.T, labelled.truth, subject.logit_scale)
        judged, *others = embeddings
        if genuine.any() and not genuine.all():
            right = (embeddings[judged] @ rows.T).argmax(1) == labelled.truth
            spoken = genuine[labelled.truth]
            entry["top1_genuine_texts"] = round(float(right[spoken].mean()), 4)
            entry["top1_approximate_texts"] = round(float(right[~spoken].mean()), 4)
        for other in others:
            same = (embeddings[judged] * embeddings[other]).sum(1)
            entry[f"cosine_{judged}_{other}"] = round(float(same.mean()), 4)
        report["sets"][labelled.name] = entry
        if output:
            draw_set(embeddings[judged] @ rows.T, labelled, subject.logit_scale, output)
    report["mean_top1"] = {
        column: round(
            float(np.mean([entry[column]["top1"] for entry in report["sets"].values()])), 4
        )
        for column in subject.encoders
    }
    if pairs:
        report["retention"] = retention(subject, texts, pairs)
    return report


def retention(subject: Subject, texts: TextRows, pairs: Path) -> dict[str, float]:
    """How much of a genuine teacher is left, on pictures whose teacher embeddings are stored.

    Needs images (N, H, W, 3) RGB, labels, image_embeddings; the classes are CIFAR-10's. retention =
    student's top-1 / teacher's. Cosines: as they are, and after each side's mean is taken away (the
    modality gap).
    """
    classes = [
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
    ]
    try:
        with np.load(pairs, allow_pickle=False) as archive:
            images = archive["images"]
            truth = archive["labels"]
            teacher = unit(archive["image_embeddings"])
    except (OSError, KeyError, ValueError) as error:
        raise DataError(f"{pairs}: needs images, labels and image_embeddings ({error})") from None
    encode = next(iter(subject.encoders.values()))
    student = np.stack(
        [
            encode(np.ascontiguousarray(p[..., ::-1]))
            for p in tqdm(images, desc="pairs", leave=False)
        ]
    )
    if teacher.shape[1] != student.shape[1]:
        raise ConfigError(
            f"{pairs}: embeddings of {teacher.shape[1]} numbers, {subject.name} gives {student.shape[1]}"
        )
    rows, _ = texts([f"a photo of a {name}" for name in classes])
    own, theirs = (metrics.top_k(e @ rows.T, truth, 1) for e in (student, teacher))
    centred = [unit(e - e.mean(0)) for e in (student, teacher)]
    return {
        "pictures": len(images),
        "student_top1": round(own, 4),
        "teacher_top1": round(theirs, 4),
        "retention": round(own / theirs, 4),
        "agreement": round(
            float(((student @ rows.T).argmax(1) == (teacher @ rows.T).argmax(1)).mean()), 4
        ),
        "cosine": round(float((student * teacher).sum(1).mean()), 4),
        "centred_cosine": round(float((centred[0] * centred[1]).sum(1).mean()), 4),
    }
