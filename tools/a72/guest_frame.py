"""Traced program: whole frames through the real pipeline, cut into its stages.

    guest_frame.py BUNDLE LABELS

The frame is a 640x480 JPEG as an MJPG camera delivers it. Capture is the hand-over between the
threads plus three copies of the JPEG: by the USB driver into its buffer, by OpenCV out of it, and
by NumPy.
"""

import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from guest import mark

import edge_runtime.pipeline as pipeline_module
from edge_runtime.camera.live import LiveSource
from edge_runtime.commands.builtin_frame import builtin_jpeg
from edge_runtime.config import CameraConfig, ModelConfig
from edge_runtime.engine import Engine, load_model
from edge_runtime.records import Frame
from edge_runtime.sinks.files.jsonl import JsonlFileSink
from edge_runtime.system.telemetry import read_vitals

START, CAPTURE, DECODE, PREPROCESS, CHECK, ENCODE, SCORE, RECORD, VITALS = range(9)
COPIES = 3
FRAMES = 4  # the first ones warm code and caches


class HandOver(LiveSource):
    """The live source without its thread: this program is both sides."""

    def _run(self) -> None:
        pass


def then_mark(step: Callable[..., Any], label: int) -> Callable[..., Any]:
    """`step`, with a cut after it."""

    def marked(*arguments: Any) -> Any:
        result = step(*arguments)
        mark(label)
        return result

    return marked


def main() -> None:
    config = ModelConfig(bundle=sys.argv[1], labels=sys.argv[2], threads=1)
    engine = Engine(*load_model(config), config)
    pipeline = pipeline_module.Pipeline(engine, camera="/dev/video0")
    vitals = read_vitals()
    # The service reads them once a second and not in every frame, so they are traced below.
    pipeline._vitals = lambda: vitals

    pipeline_module.decode = then_mark(pipeline_module.decode, DECODE)
    pipeline_module.contrast_of = then_mark(pipeline_module.contrast_of, CHECK)
    engine.preprocess = then_mark(engine.preprocess, PREPROCESS)
    engine.encode = then_mark(engine.encode, ENCODE)
    engine.score.ranked = then_mark(engine.score.ranked, SCORE)

    source = HandOver("/dev/video0", lambda: None, CameraConfig(source="/dev/video0"))
    folder = tempfile.TemporaryDirectory()
    sink = JsonlFileSink(Path(folder.name) / "records.jsonl", None)
    jpeg = builtin_jpeg()
    buffers = [np.empty_like(jpeg) for _ in range(COPIES)]

    mark(START)
    for _ in range(FRAMES):
        for before, after in zip([jpeg, *buffers], buffers, strict=False):
            np.copyto(after, before)
        source._publish(Frame(buffers[-1], "mjpg", time.monotonic(), time.time()))
        frame = source.read(1.0)
        mark(CAPTURE)

        labelled = pipeline.process(frame)
        sink.write(labelled)
        mark(RECORD)

        read_vitals()
        mark(VITALS)
    print(labelled.record.to_json())


main()
