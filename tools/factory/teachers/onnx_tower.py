"""A CLIP image tower as one ONNX file, with a text bank for the phrases, as a teacher."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_runtime.errors import DataError, NoInputError, first_line
from edge_runtime.model.labels.phrases import normalise
from edge_runtime.model.labels.text_bank import TextBank
from edge_runtime.model.preprocess import centre_square
from tools.factory.teachers.teacher import Pictures, rows_from_bank, squash, unit


def mean_by_name(names: Sequence[str], rows: NDArray[Any]) -> TextBank:
    """One row a name: rows of names that differ in case, underscores and spaces only are averaged,
    normalised again."""
    members: dict[str, list[int]] = {}
    for i, name in enumerate(names):
        members.setdefault(normalise(name.replace("_", " ")), []).append(i)
    rows = unit(rows)
    return TextBank(list(members), unit(np.stack([rows[i].mean(0) for i in members.values()])))


class OnnxTeacher:
    """A CLIP image tower as one ONNX file, with the text rows beside it.

    TOWER.onnx takes float32 NCHW pictures, normalised, of a fixed square size, and gives (N, dim).
    TOWER.json says {"text_space", "mean", "std", "names"}; TOWER.npy holds one text row a name.
    """

    def __init__(self, tower: Path, *, batch: int = 32) -> None:
        import onnxruntime

        sidecar = tower.with_suffix(".json")
        bank = tower.with_suffix(".npy")
        for path in (tower, sidecar, bank):
            if not path.is_file():
                raise NoInputError(
                    f"{path}: missing", "an ONNX teacher is TOWER.onnx, TOWER.json and TOWER.npy"
                )
        try:
            meta = json.loads(sidecar.read_text())
            self.text_space = str(meta["text_space"])
            self._mean, self._std = (
                np.asarray(meta[key], np.float32).reshape(3) for key in ("mean", "std")
            )
            self._bank = mean_by_name(
                [str(n) for n in meta["names"]], np.load(bank, allow_pickle=False)
            )
        except (ValueError, KeyError, TypeError, IndexError) as error:
            raise DataError(
                f"{sidecar}: needs text_space, mean, std and a name for each bank row ({error})"
            ) from error
        try:
            self._session: Any = onnxruntime.InferenceSession(
                str(tower), providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # ONNX Runtime raises its own unexported types
            raise DataError(f"{tower}: ONNX Runtime refuses it ({first_line(error)})") from error
        port = self._session.get_inputs()[0]
        if len(port.shape) != 4 or not isinstance(port.shape[2], int) or port.shape[1] != 3:
            raise DataError(
                f"{tower}: its input is {port.shape}",
                "a teacher takes (N, 3, size, size) of a fixed size",
            )
        self._input = port.name
        self._size = port.shape[2]
        self._batch = port.shape[0] if isinstance(port.shape[0], int) else batch

    def image_embeddings(self, pictures: Pictures) -> NDArray[np.float32]:
        """As `Teacher.image_embeddings`; pictures are cut to their centre square, as CLIP's own
        preprocessing does."""
        parts = []
        for start in range(0, len(pictures), self._batch):
            part = [
                squash(centre_square(p), self._size) for p in pictures[start : start + self._batch]
            ]
            x = ((np.stack(part).astype(np.float32) / 255 - self._mean) / self._std).transpose(
                0, 3, 1, 2
            )
            missing = self._batch - len(x) if self._batch > len(x) else 0
            x = np.concatenate((x, np.zeros((missing, *x.shape[1:]), np.float32)))
            parts.append(
                self._session.run(None, {self._input: np.ascontiguousarray(x)})[0][: len(part)]
            )
        return unit(np.concatenate(parts))

    def text_embeddings(self, phrases: Sequence[str]) -> NDArray[np.float32]:
        """As `Teacher.text_embeddings`, from the bank alone; raises DataError for a phrase it does
        not hold."""
        return rows_from_bank(self._bank, phrases, None)
