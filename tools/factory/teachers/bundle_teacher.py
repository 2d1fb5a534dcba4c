"""A bundle as a teacher: the edition that ships teaches the next one what it must not forget."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge_runtime.model.bundle import load_bundle
from edge_runtime.model.encoder import Encoder
from edge_runtime.model.labels.text_bank import TextBank
from edge_runtime.model.preprocess import Preprocessor
from tools.factory.teachers.teacher import Pictures, TextEncoder, rows_from_bank, unit


class BundleTeacher:
    """The int8 encoder of a bundle, run as the runtime runs it.

    Phrases get the rows of `bank`, and of `text` where it lacks them: the text bank in the bundle
    may be older than both.
    """

    def __init__(self, folder: Path, bank: TextBank, text: TextEncoder | None) -> None:
        bundle = load_bundle(folder)
        self.text_space = bundle.manifest.text_space
        self._prepare = Preprocessor(bundle.manifest.input)
        self._encode = Encoder(bundle)
        self.bank = bank
        self._text = text

    def image_embeddings(self, pictures: Pictures) -> NDArray[np.float32]:
        """As `Teacher.image_embeddings`."""
        # The runtime's preprocessing takes BGR.
        rows = [self._encode(self._prepare(picture[..., ::-1])) for picture in pictures]
        return unit(np.stack(rows))

    def text_embeddings(self, phrases: Sequence[str]) -> NDArray[np.float32]:
        """As `Teacher.text_embeddings`."""
        return rows_from_bank(self.bank, phrases, self._text)
