"""What distillation needs to know of a teacher, and what all teachers share.

Pictures and phrases go in, unit embeddings of one space come out. Nothing here trains, and nothing
here knows what a student is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_runtime.errors import ConfigError, DataError
from edge_runtime.model.labels.text_bank import TextBank

CLIP_B32 = "openai/clip-vit-base-patch32"
Pictures = Sequence[NDArray[np.uint8]] | NDArray[np.uint8]
TextEncoder = Callable[[Sequence[str]], NDArray[np.float32]]


class Teacher(Protocol):
    """What distillation needs to know of a teacher."""

    text_space: str

    def image_embeddings(self, pictures: Pictures) -> NDArray[np.float32]:
        """uint8 RGB pictures (H, W, 3), of any size each -> float32 (N, dim), unit norm."""
        ...

    def text_embeddings(self, phrases: Sequence[str]) -> NDArray[np.float32]:
        """Phrases as they are, no template added -> float32 (N, dim), unit norm."""
        ...


def check_text_space(teacher: Teacher, text_space: str, where: str) -> None:
    """Raise ConfigError unless `where` (a bank, a bundle, a cache) has the teacher's text
    space."""
    if teacher.text_space != text_space:
        raise ConfigError(
            f"{where}: made for text space {text_space}, the teacher uses {teacher.text_space}",
            "embeddings of two spaces cannot be compared, remake it with this teacher",
        )


def unit(rows: NDArray[Any]) -> NDArray[np.float32]:
    """Rows of (N, dim), each divided by its norm (a row of zeros stays zero), as float32."""
    rows = np.asarray(rows, np.float32)
    return rows / np.maximum(np.linalg.norm(rows, axis=-1, keepdims=True), 1e-12)


def rows_from_bank(
    bank: TextBank, phrases: Sequence[str], text: TextEncoder | None
) -> NDArray[np.float32]:
    """Rows of the bank; `text` encodes the phrases that it lacks. Raises DataError without it."""
    bank_rows = [bank.find(phrase) for phrase in phrases]
    unknown = [phrase for phrase, row in zip(phrases, bank_rows, strict=True) if row is None]
    if unknown and text is None:
        raise DataError(
            f"'{unknown[0]}' is not in the teacher's text bank "
            f"({len(unknown)} of {len(phrases)} phrases)",
            "give a text encoder or use names of the bank",
        )
    encoded = iter(text(unknown)) if unknown and text is not None else iter(())
    rows = [next(encoded) if row is None else bank.rows[row] for row in bank_rows]
    return unit(np.stack(rows))


def squash(picture: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    """The whole picture in a square, shrunk by area and enlarged linearly."""
    shrinks = min(picture.shape[:2]) >= size
    return cv2.resize(
        picture, (size, size), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    )
