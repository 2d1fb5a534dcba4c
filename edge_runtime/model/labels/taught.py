"""What pictures taught the labels of a set: which of it still holds, and how it is stored.

``edge-label labels learn`` makes a `Teaching` with ``teaching.py`` and writes it into the set's
``.embeddings`` file (``phrase_rows.py``); ``compiled.py`` puts it in the place of the words. A
label keeps what it was taught as long as its name, group, prompts and bias stay as they were. All
other labels of its group go by their words.
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_runtime.model.labels.label_set import LabelSet, LabelSpec
from edge_runtime.model.manifest import ENCODER, Manifest
from edge_runtime.system.digest import sha256_hex

# The version of `teaching.teach`. The file records it; what another version taught is still good.
METHOD = "prior-logistic/1"

# Stands for "none of these" among the labels of a group. No label of a set has an empty name.
NONE = ""

MAX_ROW_NORM = 1000.0  # a text row has norm 1
MAX_BIAS = 10_000.0  # logits
MAX_FACTOR = 1000.0

Answer = tuple[str, str, int]


@dataclass(frozen=True, slots=True)
class TaughtGroup:
    """What pictures made of the labels of one group.

    Attributes:
        name: The group.
        labels: One a row; `NONE` is last, where pictures of "none of these" taught it. It competes
            beside the background prompts.
        words: A hash of each label's words when it was taught (`words_of`).
        rows: float32 (labels, dim), not of unit norm.
        biases: float32 (labels,), added to the logits.
        factor: What the words of a label without a row here are multiplied by.
        threshold: The score from which a label may be on, unless the label set says another.
        words_right: How many of the held-out pictures the words alone answer rightly.
        answers: (label of the picture, answer, how many) of the held-out pictures; empty where
            none could be held out.
    """

    name: str
    labels: tuple[str, ...]
    words: tuple[str, ...]
    rows: NDArray[np.float32]
    biases: NDArray[np.float32]
    factor: float
    threshold: float
    words_right: int
    answers: tuple[Answer, ...]

    @property
    def held_out(self) -> int:
        """How many pictures were held out."""
        return sum(count for _, _, count in self.answers)

    @property
    def right(self) -> int:
        """How many of the held-out pictures are answered rightly."""
        return sum(count for label, answer, count in self.answers if label == answer)

    @property
    def row_of(self) -> dict[str, int]:
        """Label -> its row."""
        return {label: row for row, label in enumerate(self.labels)}

    def keep(self, labels: set[str]) -> TaughtGroup:
        """Only the rows of these labels."""
        places = [place for place, label in enumerate(self.labels) if label in labels]
        return replace(
            self,
            labels=tuple(self.labels[place] for place in places),
            words=tuple(self.words[place] for place in places),
            rows=self.rows[places],
            biases=self.biases[places],
        )


@dataclass(frozen=True, slots=True)
class Teaching:
    """What pictures taught a label set.

    Attributes:
        method: The version of the method (`METHOD`).
        encoder: What made the embeddings of the pictures (`encoder_digest`).
        pictures: Label -> sha256 of its pictures, in the order in which they taught.
        groups: The groups that were taught.
    """

    method: str
    encoder: str
    pictures: dict[str, tuple[str, ...]]
    groups: tuple[TaughtGroup, ...]

    def group(self, name: str) -> TaughtGroup | None:
        """What a group was taught, None for one that was not."""
        return next((group for group in self.groups if group.name == name), None)

    def without(self, labels: set[str]) -> Teaching | None:
        """Without these labels: they go by their words again. None where nothing is left."""
        pictures = {label: of for label, of in self.pictures.items() if label not in labels}
        groups = []
        for group in self.groups:
            kept = group.keep(set(group.labels) - labels)
            if pictures.keys() & set(kept.labels):
                groups.append(kept)
        return replace(self, pictures=pictures, groups=tuple(groups)) if groups else None

    def numbers(self) -> bytes:
        """All rows, each followed by its bias, as little-endian float32."""
        parts = [np.column_stack((group.rows, group.biases)) for group in self.groups]
        return b"".join(part.astype("<f4").tobytes() for part in parts)

    def to_dict(self) -> dict[str, Any]:
        """All but `numbers`, for JSON."""
        return {
            "method": self.method,
            "encoder": self.encoder,
            "dim": self.groups[0].rows.shape[1],
            "pictures": {label: list(of) for label, of in self.pictures.items()},
            "groups": [
                {
                    "name": group.name,
                    "labels": list(group.labels),
                    "words": list(group.words),
                    "factor": group.factor,
                    "threshold": group.threshold,
                    "words_right": group.words_right,
                    "answers": [list(answer) for answer in group.answers],
                }
                for group in self.groups
            ],
        }

    @classmethod
    def from_dict(cls, fields: dict[str, Any], numbers: bytes) -> Teaching:
        """The inverse of `to_dict` and `numbers`.

        Raises ValueError, KeyError or TypeError for what they never made.
        """
        matrix = _matrix(numbers, fields["dim"])
        groups = []
        start = 0
        for entry in fields["groups"]:
            group = _group(entry, matrix[start:])
            groups.append(group)
            start += len(group.labels)
        if start != len(matrix) or not groups:
            raise ValueError(f"{len(matrix)} taught rows for {start} labels")

        return cls(
            method=str(fields["method"]),
            encoder=str(fields["encoder"]),
            pictures={
                str(label): tuple(str(digest) for digest in digests)
                for label, digests in fields["pictures"].items()
            },
            groups=tuple(groups),
        )


def _matrix(numbers: bytes, dim: object) -> NDArray[np.float32]:
    """float32 (rows, dim + 1) of finite numbers that are not out of all proportion."""
    if not isinstance(dim, int) or dim < 1 or len(numbers) % (4 * (dim + 1)):
        raise ValueError(f"{len(numbers)} bytes are no taught rows of dimension {dim}")

    matrix = np.frombuffer(numbers, "<f4").reshape(-1, dim + 1).astype(np.float32, copy=False)
    # The largest value bounds the norm without squares, which may overflow. NaN is not below.
    largest = np.abs(matrix).max(axis=0, initial=0)
    if not (largest[:-1].max() <= MAX_ROW_NORM and largest[-1] <= MAX_BIAS):
        raise ValueError("a taught row is not finite or out of all proportion")
    return matrix


def _group(entry: dict[str, Any], matrix: NDArray[np.float32]) -> TaughtGroup:
    labels = tuple(str(label) for label in entry["labels"])
    words = tuple(str(hashed) for hashed in entry["words"])
    if not 0 < len(labels) == len(words) <= len(matrix):
        raise ValueError(f"{len(labels)} labels, {len(words)} words, {len(matrix)} taught rows")

    return TaughtGroup(
        name=str(entry["name"]),
        labels=labels,
        words=words,
        rows=matrix[: len(labels), :-1],
        biases=matrix[: len(labels), -1],
        factor=_number(entry["factor"], MAX_FACTOR),
        threshold=_number(entry["threshold"], 1.0),
        words_right=int(entry["words_right"]),
        answers=tuple((str(one), str(other), int(n)) for one, other, n in entry["answers"]),
    )


def _number(value: object, most: float) -> float:
    if not isinstance(value, int | float) or not 0 <= value <= most:
        raise ValueError(f"{value!r} is not a number from 0 to {most:g}")
    return float(value)


def encoder_digest(manifest: Manifest) -> str:
    """A hash over what turns a picture into an embedding: the encoder, and how it is fed."""
    sha256, _ = manifest.files[ENCODER]
    return sha256_hex(sha256.encode(), json.dumps(manifest.raw["input"], sort_keys=True).encode())


def words_of(label: LabelSpec | None, label_set: LabelSet, group: str, manifest: Manifest) -> str:
    """A hash over what a label says without pictures. None, for "none of these", has no words.

    It is made of the words themselves: embeddings of the same words may differ from one machine to
    another in the last bit.
    """
    scale = manifest.logit_scale / label_set.temperatures.get(group, 1.0)
    if label is None:
        parts: list[Any] = [[], 0.0, scale]
    else:
        parts = [label_set.prompts(label, manifest.templates), label.bias, scale]
    return sha256_hex(json.dumps(parts).encode())


def still_holds(
    teaching: Teaching, label_set: LabelSet, manifest: Manifest
) -> tuple[Teaching | None, list[str]]:
    """What of a teaching fits the label set and the bundle, and one line for what does not."""
    if teaching.encoder != encoder_digest(manifest):
        return None, ["the labels were taught with another bundle, so they go by their words"]

    groups = []
    lost: list[str] = []
    for group in teaching.groups:
        fits = _unchanged(group, label_set, manifest)
        lost += [name for name in group.labels if name in teaching.pictures and name not in fits]
        kept = group.keep(fits)
        if teaching.pictures.keys() & fits:
            groups.append(kept)

    lines = []
    if lost:
        names = ", ".join(f"'{name}'" if name else "none of these" for name in dict.fromkeys(lost))
        lines.append(f"changed since they were taught, so they go by their words: {names}")
    return (replace(teaching, groups=tuple(groups)) if groups else None), lines


def _unchanged(group: TaughtGroup, label_set: LabelSet, manifest: Manifest) -> set[str]:
    """The labels of a group, and `NONE`, whose words are those of the label set."""
    present: dict[str, LabelSpec | None] = {
        label.name: label for label in label_set.labels if label.group == group.name
    }
    present[NONE] = None
    return {
        name
        for name, words in zip(group.labels, group.words, strict=True)
        if name in present and words_of(present[name], label_set, group.name, manifest) == words
    }


def count_answers(answers: list[tuple[str, str]]) -> tuple[Answer, ...]:
    """(label, answer) of each held-out picture, counted and sorted."""
    return tuple((*pair, count) for pair, count in sorted(Counter(answers).items()))
