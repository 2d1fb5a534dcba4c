"""From a camera frame to the encoder's uint8 input, without one float and without growing memory.

Mean and standard deviation are folded into the graph, so this is geometry only: halve by exact 2x2 means while
the frame is at least twice too large (cheap, and it removes the aliasing that a bare linear resize leaves), then
one linear resize, then BGR to RGB. Depth is picked, not mixed: a mean of two distances, or of a distance and a
missing reading, is a place that does not exist. All buffers are made once per frame size and used again.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_runtime.model.manifest import InputSpec
from edge_runtime.model.modality import grey_levels
from edge_runtime.records import Modality
from edge_runtime.system.opencv import cv2


class Preprocessor:
    """Callable: pixels, (H, W, 3) uint8 BGR or (H, W), and their modality -> the encoder's input, uint8 RGB.

    Grey, infrared and depth become three equal channels; `modality.grey_levels` says which dtypes these may have.
    The returned array, of shape ``spec.shape``, is overwritten by the next call. Raises DataError for a wrong dtype.
    """

    def __init__(self, spec: InputSpec) -> None:
        self._spec = spec
        height, width = spec.size
        self._rgb = np.empty((height, width, 3), np.uint8)
        self._batch = np.empty(spec.shape, np.uint8)
        self._buffers: dict[tuple[tuple[int, ...], str], NDArray[Any]] = {}

    def __call__(self, pixels: NDArray[Any], modality: Modality = "rgb") -> NDArray[np.uint8]:
        height, width = self._spec.size
        picture = centre_square(pixels) if self._spec.resize == "crop" else pixels
        if len(self._buffers) > 16:  # a folder of pictures of every size must not fill the memory
            self._buffers.clear()
        if modality == "depth":
            small = cv2.resize(picture, (width, height), interpolation=cv2.INTER_NEAREST)
        else:
            while picture.shape[0] >= 2 * height and picture.shape[1] >= 2 * width:
                picture = self._halve(picture)
            small = self._buffer((height, width, *picture.shape[2:]), picture.dtype)
            cv2.resize(picture, (width, height), dst=small, interpolation=cv2.INTER_LINEAR)
        if modality != "rgb":
            one = (
                cv2.cvtColor(small, cv2.COLOR_BGR2GRAY)
                if modality == "ir" and small.ndim == 3
                else small
            )
            small = grey_levels(one, modality)
        to_rgb = cv2.COLOR_BGR2RGB if small.ndim == 3 else cv2.COLOR_GRAY2RGB
        if self._spec.layout == "NHWC":
            cv2.cvtColor(small, to_rgb, dst=self._batch[0])
        else:
            cv2.cvtColor(small, to_rgb, dst=self._rgb)
            self._batch[0] = self._rgb.transpose(2, 0, 1)
        return self._batch

    def _halve(self, picture: NDArray[Any]) -> NDArray[Any]:
        height, width = picture.shape[0] // 2, picture.shape[1] // 2
        half = self._buffer((height, width, *picture.shape[2:]), picture.dtype)
        even = picture[: 2 * height, : 2 * width]
        cv2.resize(even, (width, height), dst=half, interpolation=cv2.INTER_AREA)
        return half

    def _buffer(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any]:
        buffer = self._buffers.get((shape, dtype.str))
        if buffer is None:
            buffer = self._buffers[shape, dtype.str] = np.empty(shape, dtype)
        return buffer


LOW_SPREAD = 5.0


def is_flat(picture: NDArray[np.uint8]) -> bool:
    """Black, white or one colour: the standard deviation of no channel of (H, W, C) reaches ``LOW_SPREAD``.

    After the resize, a covered lens with a noisy sensor (sigma 12 of 255) has 3.4; the least of 3,942 photographs has
    14.9. Every third row is enough to tell.
    """
    return bool(cv2.meanStdDev(picture[::3])[1].max() < LOW_SPREAD)


def centre_square(pixels: NDArray[Any]) -> NDArray[Any]:
    """The largest centred square of a picture, as a view."""
    height, width = pixels.shape[:2]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    return pixels[top : top + side, left : left + side]
