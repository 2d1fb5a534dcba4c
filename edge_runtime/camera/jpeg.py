"""A frame as a JPEG that any browser or viewer opens.

Where the camera sent an upright JPEG these are its own bytes; any other frame is encoded here.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_runtime.camera.decode import FULL_SIZE, decode, eight_bits
from edge_runtime.errors import DataError
from edge_runtime.records import Frame
from edge_runtime.system.jpeg_bytes import DHT, jpeg_size, segments
from edge_runtime.system.opencv import cv2


class JpegEncoder:
    """Callable: Frame -> JPEG bytes. Raises DataError for a frame that is broken.

    ``max_width`` shrinks frames that are encoded here. A JPEG from the camera keeps its size,
    because shrinking it costs more than sending it. Nothing private is left in a frame that comes
    here: camera/privacy.py has removed it.
    """

    def __init__(self, *, quality: int = 85, max_width: int | None = None) -> None:
        self._quality = quality
        self._max_width = max_width

    def __call__(self, frame: Frame) -> bytes:
        # One that must be turned is encoded again: a note in its EXIF data would turn it for a
        # browser, but not in a clip, and not for every program that gets it from a hook.
        if frame.encoding == "mjpg" and frame.turn is None:
            jpeg_size(frame.data)  # raises for half a picture
            return with_huffman_tables(frame.data.tobytes().rstrip(b"\0"))

        pixels = decode(frame, FULL_SIZE)
        if pixels.dtype != np.uint8:
            pixels = eight_bits(pixels)
        if self._max_width and pixels.shape[1] > self._max_width:
            pixels = _shrink(pixels, self._max_width)

        ok, jpeg = cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, self._quality])
        if not ok:
            raise DataError(f"a frame of shape {pixels.shape} cannot be encoded as JPEG")
        return bytes(jpeg)


def _shrink(pixels: NDArray[Any], to_width: int) -> NDArray[Any]:
    """(H, W[, 3]) pixels at ``to_width``, in proportion.

    Halve while that is wide enough, then one linear step. From 960 to 640 that takes a quarter of
    the time of INTER_AREA, which is fast only where it halves.
    """
    height, width = pixels.shape[:2]
    to_height = max(1, round(height * to_width / width))
    while pixels.shape[1] >= 2 * to_width:
        half = (pixels.shape[1] // 2, max(1, pixels.shape[0] // 2))
        pixels = cv2.resize(pixels, half, interpolation=cv2.INTER_AREA)
    small: NDArray[Any] = cv2.resize(pixels, (to_width, to_height), interpolation=cv2.INTER_LINEAR)
    return small


def with_huffman_tables(jpeg: bytes) -> bytes:
    """``jpeg`` with the standard Huffman tables where it has none.

    Many USB cameras leave them out, as AVI's MJPG format allows. Not every viewer knows them.
    """
    if any(marker == DHT for marker, _ in segments(jpeg)):
        return jpeg
    return jpeg[:2] + standard_huffman_tables() + jpeg[2:]


@functools.cache
def standard_huffman_tables() -> bytes:
    """The DHT segments of annex K.3 of the JPEG standard, as libjpeg writes them."""
    _, jpeg = cv2.imencode(".jpg", np.zeros((16, 16, 3), np.uint8))
    tables = [segment for marker, segment in segments(bytes(jpeg)) if marker == DHT]
    return b"".join(tables)
