"""What is scored: a bundle, or any ONNX CLIP tower, as encoders and text rows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge_runtime.errors import ConfigError, DataError, NoInputError
from edge_runtime.model.bundle import load_bundle
from edge_runtime.model.encoder import Encoder, open_session
from edge_runtime.model.labels.text_bank import TextBank
from edge_runtime.model.preprocess import Preprocessor
from tools.factory.data.entries import rgb
from tools.factory.teachers.onnx_tower import OnnxTeacher
from tools.factory.teachers.teacher import CLIP_B32, unit
from tools.factory.text.rows import load_text_rows, taught_of, with_taught
from tools.factory.text.sentence_map import SentenceMap

WEIGHTS = Path("../shared/weights")
Picture = NDArray[np.uint8]  # (H, W, 3) BGR
PictureEncoder = Callable[[Picture], NDArray[np.float32]]


@dataclass(frozen=True)
class Subject:
    """What is scored.

    Attributes:
        encoders: column name -> a function from a picture to its unit embedding (dim,). Scores are
            of the first; the others are compared with it.
        find: a function from a phrase to its unit row and whether that row is genuine; it returns
            None where the bank does not hold the phrase.
        taught: rows of the bank that pictures moved, by name; the map is fitted on them too.
    """

    name: str
    text_space: str
    logit_scale: float
    encoders: dict[str, PictureEncoder]
    find: Callable[[str], tuple[NDArray[np.float32], bool] | None]
    taught: dict[str, NDArray[np.float32]] = field(default_factory=dict)


def load_subject(target: Path, fp32: Path | None) -> Subject:
    """A bundle directory, or TOWER.onnx with its TOWER.json and TOWER.npy. Raises BundleError,
    NoInputError."""
    if target.suffix == ".onnx":
        tower = OnnxTeacher(target)
        rows = _rows_of_bank(tower.text_embeddings)
        encode = {"tower": lambda picture: tower.image_embeddings([rgb(picture)])[0]}
        return Subject(target.stem, tower.text_space, 100.0, encode, rows)
    bundle = load_bundle(target)
    bank = TextBank.from_bundle(bundle)
    prepare = Preprocessor(bundle.manifest.input)
    encoder = Encoder(bundle)
    encoders: dict[str, PictureEncoder] = {"int8": lambda picture: encoder(prepare(picture))}
    if fp32:
        if not fp32.is_file():
            raise NoInputError(f"{fp32}: no such file", "check --fp32")
        session = open_session(fp32.read_bytes(), 2, str(fp32))
        encoders["fp32"] = lambda picture: unit(
            session.run(None, {bundle.manifest.input.name: prepare(picture)})[0]
        )[0]

    def find(phrase: str) -> tuple[NDArray[np.float32], bool] | None:
        row = bank.find(phrase)
        if row is None:
            return None
        return bank.rows[row].astype(np.float32), row not in bank.approximate

    manifest = bundle.manifest
    scale = manifest.logit_scale
    return Subject(manifest.id, manifest.text_space, scale, encoders, find, taught_of(bank))


def _rows_of_bank(
    embed: Callable[[Sequence[str]], NDArray[np.float32]],
) -> Callable[[str], tuple[NDArray[np.float32], bool] | None]:
    def find(phrase: str) -> tuple[NDArray[np.float32], bool] | None:
        try:
            return embed([phrase])[0], True
        except DataError:
            return None

    return find


class TextRows:
    """Phrases to rows: the subject's own bank first, then the sentence map (CLIP ViT-B/32 only)."""

    def __init__(self, subject: Subject) -> None:
        self._subject = subject
        self._map: SentenceMap | None = None

    def __call__(self, phrases: Sequence[str]) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """(rows (N, dim) of unit norm, whether each of them is genuine (N,))."""
        rows = {phrase: self._subject.find(phrase) for phrase in phrases}
        missing = [phrase for phrase, row in rows.items() if row is None]
        if missing:
            estimated = self._estimate(missing)
            rows |= {phrase: (row, False) for phrase, row in zip(missing, estimated, strict=True)}

        ordered = [rows[phrase] for phrase in phrases]
        vectors = np.stack([row for row, _ in ordered])
        return unit(vectors), np.array([genuine for _, genuine in ordered])

    def _estimate(self, phrases: list[str]) -> NDArray[np.float32]:
        subject = self._subject
        if subject.text_space != CLIP_B32:
            raise ConfigError(
                f"'{phrases[0]}' is not in the text bank of {subject.name} "
                f"({len(phrases)} phrases)",
                "make the bank with them: python -m tools.prompts",
            )
        if self._map is None:
            self._map = SentenceMap(with_taught(load_text_rows(WEIGHTS), subject.taught))
        return self._map(phrases)
