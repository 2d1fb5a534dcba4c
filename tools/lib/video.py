"""The frames of a clip."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge_runtime.camera.replay import ffmpeg_name
from edge_runtime.errors import NoInputError
from edge_runtime.system.opencv import cv2


def frames_of(clip: Path) -> Iterator[NDArray[np.uint8]]:
    """All frames, uint8 BGR (H, W, 3). Raises NoInputError where there is none."""
    capture = cv2.VideoCapture(ffmpeg_name(clip), cv2.CAP_FFMPEG)
    try:
        is_read, frame = capture.read()
        if not is_read:
            raise NoInputError(f"{clip}: no clip there", "unpack videos.zip and give its folder")
        while is_read:
            yield np.asarray(frame, np.uint8)
            is_read, frame = capture.read()
    finally:
        capture.release()
