"""What a JPEG's bytes tell without decoding them: its segments, its size, whether it is whole.

Markers and segments are those of ITU-T T.81, annex B.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from edge_runtime.errors import DataError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Buffer = bytes | memoryview | NDArray[Any]

# Second bytes of markers; the first is 0xFF.
SOI = 0xD8  # start of image
EOI = 0xD9  # end of image
DHT = 0xC4  # Huffman tables
SOS = 0xDA  # start of scan: picture data follows

JPEG_START = bytes((0xFF, SOI))
_JPEG_END = bytes((0xFF, EOI))

# A frame header (SOF) has one of 0xC0 to 0xCF, except for tables and an extension.
_FIRST_SOF = 0xC0
_LAST_SOF = 0xCF
_NOT_SOF = (0xC4, 0xC8, 0xCC)

_SMALLEST = 64  # bytes; the headers alone are longer


def segments(data: Buffer) -> Iterator[tuple[int, memoryview]]:
    """(marker, segment from its 0xFF on) of everything before the picture data."""
    view = memoryview(data)  # type: ignore[arg-type]
    at = 2
    while at + 4 <= len(view) and view[at] == 0xFF and view[at + 1] != SOS:
        if view[at + 1] == 0xFF:  # any number of these may stand before a marker
            at += 1
            continue
        length = int.from_bytes(view[at + 2 : at + 4], "big")  # counts itself, not the marker
        end = at + 2 + length
        yield view[at + 1], view[at:end]
        at = end


def is_cut_off(data: bytes) -> bool:
    """Whether a JPEG file ends before its picture does.

    Thumbnails before the picture and trailers behind it do not count.
    """
    if data[:2] != JPEG_START:
        return False
    headers = 2 + sum(len(segment) for _, segment in segments(data))
    return data.find(_JPEG_END, headers) < 0  # picture data never holds these two bytes


def jpeg_size(data: Buffer) -> tuple[int, int]:
    """(height, width) from a JPEG's frame header, its start and end markers checked on the way.

    Raises DataError. A camera that is being unplugged sends halves of pictures, and libjpeg would
    fill the rest with grey.
    """
    view = memoryview(data)  # type: ignore[arg-type]
    if len(view) < _SMALLEST or bytes(view[:2]) != JPEG_START or not _ends_whole(view):
        raise DataError("broken JPEG from the camera: start or end marker is missing")

    for marker, segment in segments(view):
        is_sof = _FIRST_SOF <= marker <= _LAST_SOF and marker not in _NOT_SOF
        if is_sof and len(segment) >= 9:
            height = int.from_bytes(segment[5:7], "big")
            width = int.from_bytes(segment[7:9], "big")
            if height and width:
                return height, width
            break
    raise DataError("broken JPEG from the camera: no frame header")


def _ends_whole(view: memoryview) -> bool:
    """Whether the end marker is last. Some cameras pad with zeros to a fixed buffer size."""
    tail = bytes(view[-64:]).rstrip(b"\0")
    if len(tail) < 2:  # more padding than that: copy the whole, once in a while
        tail = bytes(view).rstrip(b"\0")[-2:]
    return tail.endswith(_JPEG_END)
