"""From what a camera delivers to pixels, at no more than the size that is needed."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_runtime.errors import DataError
from edge_runtime.records import Encoding, Frame, Turn
from edge_runtime.system.jpeg_bytes import jpeg_size
from edge_runtime.system.opencv import MAX_PIXELS, cv2

FULL_SIZE = (1 << 30, 1 << 30)  # as ``at_least``: shrink nothing

# libjpeg can scale inside the inverse DCT by these factors.
_REDUCED = {
    2: cv2.IMREAD_REDUCED_COLOR_2,
    4: cv2.IMREAD_REDUCED_COLOR_4,
    8: cv2.IMREAD_REDUCED_COLOR_8,
}

_YUV = {"yuyv": cv2.COLOR_YUV2BGR_YUYV, "yu12": cv2.COLOR_YUV2BGR_I420}

_ROTATIONS = {
    90: cv2.ROTATE_90_CLOCKWISE,
    180: cv2.ROTATE_180,
    270: cv2.ROTATE_90_COUNTERCLOCKWISE,
}
_FLIPS = {"horizontal": 1, "vertical": 0}  # as cv2.flip numbers them


def decode(frame: Frame, at_least: tuple[int, int]) -> NDArray[Any]:
    """Upright pixels of a frame: BGR uint8 (H, W, 3), or (H, W) for grey and 16-bit sources.

    A JPEG is decoded at 1/2, 1/4 or 1/8 while that still covers ``at_least`` (height, width). That
    takes half the time, and the scaled inverse DCT is a good low-pass filter. The figures are in
    docs/decisions/001. Raises DataError for a broken JPEG.
    """
    if frame.turn is None:
        return _decode(frame, at_least)

    # The smaller picture is turned: that costs next to nothing.
    lies_on_its_side = frame.turn.degrees in (90, 270)
    before = (at_least[1], at_least[0]) if lies_on_its_side else at_least
    return _upright(_decode(frame, before), frame.turn)


def _upright(pixels: NDArray[Any], turn: Turn) -> NDArray[Any]:
    """A copy of (H, W[, 3]) pixels, turned clockwise and then mirrored."""
    if turn.degrees:
        pixels = cv2.rotate(pixels, _ROTATIONS[turn.degrees])
    if turn.flip:
        pixels = cv2.flip(pixels, _FLIPS[turn.flip])
    return pixels


def _decode(frame: Frame, at_least: tuple[int, int]) -> NDArray[Any]:
    """The pixels as the camera delivered them."""
    if frame.encoding == "mjpg":
        return _decode_jpeg(frame.data, at_least)
    if frame.encoding in _YUV:
        bgr: NDArray[Any] = cv2.cvtColor(frame.data, _YUV[frame.encoding])
        return bgr
    return frame.data


def _decode_jpeg(jpeg: NDArray[Any], at_least: tuple[int, int]) -> NDArray[Any]:
    height, width = jpeg_size(jpeg)
    # OpenCV has this limit too, but applies it after scaling: at 1/8 it would let 64 times as many
    # pixels through.
    if height * width > MAX_PIXELS:
        raise DataError(f"broken JPEG from the camera: its header promises {width}x{height} pixels")

    scales = [s for s in _REDUCED if height >= s * at_least[0] and width >= s * at_least[1]]
    flag = _REDUCED[max(scales)] if scales else cv2.IMREAD_COLOR
    pixels: NDArray[Any] | None = cv2.imdecode(jpeg, flag)
    if pixels is None:
        raise DataError("broken JPEG from the camera: it does not decode")
    return pixels


def eight_bits(pixels: NDArray[Any]) -> NDArray[np.uint8]:
    """Readings of any dtype (H, W) as grey levels uint8: the highest reading is white.

    Negative readings, NaN and infinity are black: a depth camera uses them for "no reading".
    """
    readings = np.nan_to_num(pixels, nan=0, posinf=0, neginf=0).clip(0)
    highest = float(readings.max()) or 1.0
    grey: NDArray[np.uint8] = cv2.convertScaleAbs(readings, alpha=255.0 / highest)
    return grey


def encoding_of(pixels: NDArray[Any]) -> Encoding:
    """The encoding of decoded pixels: (H, W, 3) is bgr, one channel goes by its dtype."""
    if pixels.ndim == 3:
        return "bgr"
    by_dtype: dict[str, Encoding] = {"uint8": "grey", "uint16": "y16"}
    return by_dtype.get(pixels.dtype.name, "f32")
