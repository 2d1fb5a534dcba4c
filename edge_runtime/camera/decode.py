"""From what a camera delivers to pixels, at no more than the size that is needed."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_runtime.errors import DataError
from edge_runtime.opencv import cv2
from edge_runtime.records import Frame

_REDUCED = {2: cv2.IMREAD_REDUCED_COLOR_2, 4: cv2.IMREAD_REDUCED_COLOR_4, 8: cv2.IMREAD_REDUCED_COLOR_8}


def decode(frame: Frame, at_least: tuple[int, int]) -> NDArray[Any]:
    """Pixels of a frame: BGR uint8 (H, W, 3), or (H, W) for grey and 16-bit sources.

    A JPEG is decoded at 1/2, 1/4 or 1/8 while that still covers ``at_least`` (height, width): half the time,
    and the scaled inverse DCT is a good low-pass filter. Raises DataError for a broken JPEG.
    """
    if frame.encoding == "mjpg":
        height, width = jpeg_size(frame.data)
        scale = max((s for s in _REDUCED if height >= s * at_least[0] and width >= s * at_least[1]), default=1)
        pixels: NDArray[Any] | None = cv2.imdecode(frame.data, _REDUCED.get(scale, cv2.IMREAD_COLOR))
        if pixels is None:
            raise DataError("broken JPEG from the camera: it does not decode")
        return pixels
    if frame.encoding == "yuyv":
        bgr: NDArray[Any] = cv2.cvtColor(frame.data, cv2.COLOR_YUV2BGR_YUYV)
        return bgr
    return frame.data


def jpeg_size(data: NDArray[np.uint8]) -> tuple[int, int]:
    """(height, width) from a JPEG's frame header, its start and end markers checked on the way.

    Raises DataError; a camera that is being unplugged sends halves of pictures that libjpeg would fill with grey.
    """
    tail = data[-64:].tobytes().rstrip(b"\0")  # some cameras pad to a fixed buffer size
    if len(data) < 64 or data[0] != 0xFF or data[1] != 0xD8 or not tail.endswith(b"\xff\xd9"):
        raise DataError("broken JPEG from the camera: start or end marker is missing")
    head = data[: 1 << 16].tobytes()
    at = 2
    while at + 9 < len(head) and head[at] == 0xFF:
        marker, length = head[at + 1], int.from_bytes(head[at + 2 : at + 4], "big")
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            height, width = int.from_bytes(head[at + 5 : at + 7], "big"), int.from_bytes(head[at + 7 : at + 9], "big")
            if height and width:
                return height, width
            break
        at += 2 + length
    raise DataError("broken JPEG from the camera: no frame header")
