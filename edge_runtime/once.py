"""Label pictures: one record each, as JSON lines, or as a line for a person on a terminal."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

from edge_runtime.camera import open_source
from edge_runtime.config import CameraConfig, ModelConfig
from edge_runtime.pipeline import Pipeline
from edge_runtime.records import LabelRecord
from edge_runtime.service import load_engine


def label_pictures(pictures: list[str], model: ModelConfig) -> int:
    """Label files and folders in order; broken pictures are logged and passed over. Returns the exit code.

    Raises NoInputError, or DataError when an argument holds no readable picture at all.
    """
    sources = [open_source(CameraConfig(source=str(Path(p).absolute()))) for p in pictures]
    pipeline = Pipeline(load_engine(model), camera="once")
    for given, source in zip(pictures, sources, strict=True):
        while (frame := source.read(0)) is not None:
            if Path(given).is_file():
                frame.file = given
            record = replace(pipeline.process(frame), camera=given)
            sys.stdout.write((_line(record) if sys.stdout.isatty() else record.to_json()) + "\n")
            sys.stdout.flush()
    return 0


def _line(record: LabelRecord) -> str:
    shown = [label for label in record.labels if label.on] or list(record.labels[:3])
    text = ", ".join(f"{label.name} {label.score:.2f}" for label in shown)
    return f"{record.file}: {text if record.state == 'ok' else f'{record.state} (best: {text})'}"
