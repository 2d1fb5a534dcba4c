"""A teaching in the file beside a label set, made without pictures."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from edge_runtime.model.labels.phrase_rows import PhraseRows, rows_path
from edge_runtime.model.labels.taught import TaughtGroup, Teaching, encoder_digest
from edge_runtime.model.manifest import Manifest


def teach_blue(label_set: Path, manifest: Manifest, encoder: str | None = None) -> bytes:
    """Put a teaching of the label 'blue' into the file of a label set; returns its numbers."""
    group = TaughtGroup(
        name="labels",
        labels=("blue",),
        words=("-",),
        rows=np.full((1, manifest.dim), 0.5, np.float32),
        biases=np.ones(1, np.float32),
        factor=1.0,
        threshold=0.5,
        words_right=0,
        answers=(),
    )
    teaching = Teaching("test/1", encoder or encoder_digest(manifest), {"blue": ("aa",)}, (group,))
    target = rows_path(label_set)
    built = PhraseRows.read(target) or PhraseRows.none(manifest.text_space, manifest.dim)
    replace(built, teaching=teaching).write(target)
    return teaching.numbers()
