"""The text bank of a bundle: genuine rows of a text tower, rows that pictures taught, and estimated
rows for the rest."""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edge_runtime.model.labels.label_set import parse_label_set
from edge_runtime.model.labels.phrases import PhraseIndex, bare, normalise
from edge_runtime.model.labels.text_bank import BANK_SCHEMA
from edge_runtime.system.strict_yaml import read_text
from tools.factory.bundling.lessons import Lesson
from tools.factory.bundling.taught import rivals_of, taught_rows
from tools.factory.teachers.teacher import CLIP_B32, Teacher, unit
from tools.factory.text.rows import (
    DEFAULT_WEIGHTS,
    TextRows,
    load_text_rows,
    unique_rows,
    with_taught,
)
from tools.factory.text.sentence_map import Remembered, SentenceFeatures, SentenceMap

TEMPLATES = ("a photo of a {}",)


@dataclass(frozen=True)
class Bank:
    """Text embeddings by name.

    Attributes:
        rows: float16 (N, dim), unit norm.
        approximate: indices of the estimated rows.
        taught: indices of the rows that pictures moved.
        sources: where the rows of each kind come from.
    """

    names: tuple[str, ...]
    rows: np.ndarray
    approximate: tuple[int, ...]
    text_space: str
    sources: dict[str, str]
    taught: tuple[int, ...] = ()

    def files(self) -> dict[str, bytes]:
        """text_bank.npy and text_bank.json as the runtime reads them."""
        array = io.BytesIO()
        np.save(array, self.rows, allow_pickle=False)
        meta = {
            "schema": BANK_SCHEMA,
            "text_space": self.text_space,
            "names": list(self.names),
            "approximate": list(self.approximate),
            "taught": list(self.taught),
            "sources": self.sources,
        }
        text = json.dumps(meta, ensure_ascii=False, indent=0) + "\n"
        return {"text_bank.npy": array.getvalue(), "text_bank.json": text.encode()}


def wanted_phrases(label_sets: Iterable[Path], phrase_lists: Iterable[Path] = ()) -> dict[str, str]:
    """Bare phrase -> as first written.

    They are every prompt and background of the sets, and every line of the lists.
    """
    written: list[str] = []
    for path in label_sets:
        labels = parse_label_set(read_text(path, "label set"), str(path))
        for label in labels.labels:
            written += label.prompts or [template.format(label.name) for template in TEMPLATES]
        written += labels.background
    for path in phrase_lists:
        lines = (line.strip() for line in read_text(path, "phrase list").splitlines())
        written += [
            TEMPLATES[0].format(line) for line in lines if line and not line.startswith("#")
        ]
    out: dict[str, str] = {}
    for phrase in written:
        out.setdefault(bare(normalise(phrase)), phrase)
    return out


def offline_bank(
    phrases: dict[str, str],
    weights: Path = DEFAULT_WEIGHTS,
    lessons: Sequence[Lesson] = (),
    scale: float = 0.0,
) -> Bank:
    """Genuine CLIP ViT-B/32 rows, those of them and others that pictures teach, and the sentence
    map's rows for the phrases that are still missing. The map is fitted on all the others.

    scale: the logit scale of the bundle whose encoder saw the lessons' pictures.
    """
    text_rows = load_text_rows(weights)
    exact = unique_rows(text_rows)
    features = Remembered(SentenceFeatures())
    taught: dict[str, np.ndarray] = {}
    if lessons:
        taught = _teach(lessons, exact, SentenceMap(text_rows, features), scale)
        text_rows = with_taught(text_rows, taught)

    known = exact | {name: taught[name] for name in sorted(taught)}
    index = PhraseIndex(list(known))
    missing = sorted(phrase for phrase in phrases if index.find(phrase) is None)
    estimated = SentenceMap(text_rows, features)([phrases[name] for name in missing])
    names = (*known, *missing)
    return Bank(
        names=names,
        rows=np.concatenate([np.stack(list(known.values())), estimated]).astype(np.float16),
        approximate=tuple(range(len(known), len(names))),
        text_space=CLIP_B32,
        sources=_sources(text_rows, exact, lessons),
        taught=tuple(row for row, name in enumerate(names) if name in taught),
    )


def _teach(
    lessons: Sequence[Lesson], exact: dict[str, np.ndarray], mapped: SentenceMap, scale: float
) -> dict[str, np.ndarray]:
    def text(names: Sequence[str]) -> np.ndarray:
        estimated = mapped(names)
        pairs = zip(names, estimated, strict=True)
        return np.stack([exact.get(name, estimate) for name, estimate in pairs])

    names = {name for lesson in lessons for own in lesson.phrases.values() for name in own}
    return taught_rows(lessons, text, rivals_of(exact, names), scale)


def _sources(
    text_rows: TextRows, exact: dict[str, np.ndarray], lessons: Sequence[Lesson]
) -> dict[str, str]:
    spellings = zip(text_rows.names, text_rows.kinds, strict=True)
    plain = {name for name, kind in spellings if kind == "plain"}
    moved = set(exact) - plain
    sources = {
        "exact": "OpenAI CLIP ViT-B/32 text embeddings of LVIS, ImageNet, Objects365 and "
        "OpenImages names, from facebookresearch/Detic, rotem154154/clip_lt and others; of SUN397 "
        "scenes, textures, aerial scenes, signs and numbers from gstoica27/KnOTS; of rooms from "
        f"Maithili/OpenVocabularyRearrangement (Apache-2.0, MIT); {len(moved)} names that were "
        "encoded in another spelling are moved by the mean step between spellings",
        "approximate": "kernel ridge regression from all-MiniLM-L6-v2 (Apache-2.0) onto all other "
        "rows; python -m tools.measure.sentence_map prints its quality",
    }
    if lessons:
        pictures = sum(len(lesson.files) for lesson in lessons)
        sources["taught"] = (
            f"text rows moved by {pictures} pictures to where this bundle's encoder puts them "
            "(tools/recipes/taught.yaml); python -m tools.measure.conditions prints what that is "
            "worth on pictures that did not teach"
        )
    return sources


def teacher_bank(teacher: Teacher, phrases: dict[str, str], names: Sequence[str] = ()) -> Bank:
    """Every row from the teacher's own text tower.

    ``names`` go into the first template; phrases stay as they are written.
    """
    texts = {name: TEMPLATES[0].format(name) for name in names} | phrases
    order = sorted(texts)
    rows = unit(teacher.text_embeddings([texts[name] for name in order]))
    return Bank(
        tuple(order), rows.astype(np.float16), (), teacher.text_space, {"exact": teacher.text_space}
    )
