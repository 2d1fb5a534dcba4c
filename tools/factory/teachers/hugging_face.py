"""Any CLIP or SigLIP that transformers can load, as a teacher."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from edge_runtime.errors import DataError, NoInputError
from tools.factory.students.weights import reason
from tools.factory.teachers.teacher import Pictures, unit


class HuggingFaceTeacher:
    """A CLIP or SigLIP of the transformers library; its own processor prepares pictures and
    phrases."""

    def __init__(self, name: str, *, device: str | None = None, batch: int = 64) -> None:
        from transformers import AutoModel, AutoProcessor

        try:
            self._model = AutoModel.from_pretrained(name)
            self._processor = AutoProcessor.from_pretrained(name)
        except Exception as error:
            # Unknown names, damaged files and missing libraries all raise types of their own.
            raise NoInputError(
                f"teacher {name}: transformers cannot load it ({reason(error)})"
            ) from error
        if not hasattr(self._model, "get_image_features"):
            raise DataError(
                f"teacher {name}: a {type(self._model).__name__} has no image and text towers",
                "name a CLIP",
            )
        self.text_space = name
        self._device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        self._batch = batch
        self._model.eval().to(self._device)
        # SigLIP was trained on texts padded to its full length, CLIP masks the padding.
        self._text_options = {
            "padding": "max_length" if self._model.config.model_type.startswith("siglip") else True,
            "max_length": self._model.config.text_config.max_position_embeddings,
            "truncation": True,
        }

    def image_embeddings(self, pictures: Pictures) -> NDArray[np.float32]:
        """As `Teacher.image_embeddings`."""
        return self._run(
            pictures,
            lambda part: self._processor(images=[np.asarray(p) for p in part], return_tensors="pt"),
            self._model.get_image_features,
        )

    def text_embeddings(self, phrases: Sequence[str]) -> NDArray[np.float32]:
        """As `Teacher.text_embeddings`; phrases longer than the tower reads are cut."""
        return self._run(
            phrases,
            lambda part: self._processor(
                text=list(part), return_tensors="pt", **self._text_options
            ),
            self._model.get_text_features,
        )

    @torch.no_grad()
    def _run(
        self, items: Sequence[Any], prepare: Callable[[Any], Any], tower: Callable[..., Any]
    ) -> NDArray[np.float32]:
        parts = []
        for start in range(0, len(items), self._batch):
            inputs = prepare(items[start : start + self._batch]).to(self._device)
            output = tower(**inputs)
            # transformers 5 wraps what transformers 4 returned bare.
            parts.append(getattr(output, "pooler_output", output).float().cpu().numpy())
        return unit(np.concatenate(parts))
