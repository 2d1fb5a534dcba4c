"""The frame that ``bench`` labels when no camera is named, and the source that delivers it.

It is drawn here and not shipped as a file: the wheel stays small, and every machine labels the same
pixels. The tests and the tools that measure decoding use it too.
"""

from __future__ import annotations

import time
from itertools import cycle
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from edge_runtime.camera.repeats import RepeatCounter
from edge_runtime.errors import EdgeLabelError
from edge_runtime.records import CameraState, Encoding, Frame
from edge_runtime.system.opencv import cv2

_BOXES = 40
_JPEG_QUALITY = 85


class BuiltinSource:
    """A 640x480 scene as an MJPG or a YUYV camera would send it, as fast as it is read."""

    live = False
    state: CameraState = "ok"
    ended = False
    patience_s = 1.0

    def __init__(self, encoding: Literal["mjpg", "yuyv"] = "mjpg") -> None:
        self.name = f"built-in 640x480 {encoding.upper()} frame"
        self._encoding: Encoding = encoding

        # Two frames in turn: no camera sends the same bytes twice, unless it is frozen.
        jpegs = [builtin_jpeg(), builtin_jpeg(noise_seed=1)]
        self._frames = cycle(jpegs if encoding == "mjpg" else [_yuyv(jpeg) for jpeg in jpegs])
        self._repeats = RepeatCounter()

    def read(self, timeout_s: float) -> Frame:
        """The next frame, at once. The look for a frozen picture is timed, as a camera's is."""
        data = next(self._frames)

        start = time.monotonic()
        self._repeats(data)
        check_ms = (time.monotonic() - start) * 1e3
        return Frame(data, self._encoding, start, time.time(), check_ms=check_ms)

    def refused(self, frame: Frame, error: EdgeLabelError) -> None:
        """A built-in frame that cannot be labelled is a bug."""
        raise error

    def close(self) -> None:
        """Nothing is held."""


def builtin_jpeg(width: int = 640, height: int = 480, noise_seed: int = 0) -> NDArray[np.uint8]:
    """JPEG bytes, uint8 (n,), of a deterministic scene with gradients, shapes and noise.

    At 640x480 it is 53 kB, as large as the most detailed clip of
    docs/decisions/013-what-is-not-the-encoder.md, so that decoding takes as long as a camera's
    frame does. It is drawn in uint8 and without numpy.random (2.4 MB): the picture must not set
    the peak memory that it helps to measure.
    """
    cv2.setRNGSeed(0)
    sky = cv2.randu(np.empty((6, 8, 3), np.uint8), (40,) * 3, (216,) * 3)
    picture = cv2.resize(sky, (width, height), interpolation=cv2.INTER_CUBIC)

    boxes = cv2.randu(np.empty((_BOXES, 7), np.uint8), 0, 256).tolist()
    for x, y, w, h, *colour in boxes:
        left = x * width // 256
        top = y * height // 256
        corner = (left + w // 2, top + h // 2)
        cv2.rectangle(picture, (left, top), corner, colour, thickness=cv2.FILLED)

    # Noise of 0 to 20, then 10 off: uint8 cannot be negative, and the mean stays what it was.
    cv2.setRNGSeed(1 + noise_seed)
    noise = cv2.randu(np.empty_like(picture), (0,) * 3, (20,) * 3)
    picture = cv2.subtract(cv2.add(picture, noise), np.full(4, 10.0))

    ok, jpeg = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])
    if not ok:
        raise RuntimeError("OpenCV cannot encode JPEG")
    flat: NDArray[np.uint8] = jpeg.reshape(-1)
    return flat


def _yuyv(jpeg: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The same picture uncompressed, uint8 (H, W, 2)."""
    bgr = cv2.imdecode(jpeg, cv2.IMREAD_COLOR)
    pixels: NDArray[Any] = cv2.cvtColor(bgr, cv2.COLOR_BGR2YUV_YUYV)
    return pixels
