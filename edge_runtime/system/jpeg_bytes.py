"""What a JPEG's bytes tell without decoding them: its segments, its size, whether it is whole."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from edge_runtime.errors import DataError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Buffer = bytes | memoryview | NDArray[Any]

SOI, EOI, DHT, SOS = 0xD8, 0xD9, 0xC4, 0xDA
JPEG_START = bytes((0xFF, SOI))
_NOT_SOF = (0xC4, 0xC8, 0xCC)  # tables and an extension, among the frame headers' numbers


def segments(data: Buffer) -> Iterator[tuple[int, memoryview]]:
    """(marker, segment from its 0xFF on) of everything before the picture data."""
    view = memoryview(data)  # type: ignore[arg-type]
    at = 2
    while at + 4 <= len(view) and view[at] == 0xFF and view[at + 1] != SOS:
        if view[at + 1] == 0xFF:  # any number of these may stand before a marker
            at += 1
            continue
        end = at + 2 + int.from_bytes(view[at + 2 : at + 4], "big")
        yield view[at + 1], view[at:end]
        at = end


def is_cut_off(data: bytes) -> bool:
    """Whether a JPEG file ends before its picture does. Thumbnails before it and trailers behind it do not count."""
    if data[:2] != JPEG_START:
        return False
    headers = 2 + sum(len(segment) for _, segment in segments(data))
    return data.find(bytes((0xFF, EOI)), headers) < 0  # picture data never holds these two bytes


def jpeg_size(data: Buffer) -> tuple[int, int]:
    """(height, width) from a JPEG's frame header, its start and end markers checked on the way.

    Raises DataError; a camera that is being unplugged sends halves of pictures that libjpeg would fill with grey.
    """
    view = memoryview(data)  # type: ignore[arg-type]
    tail = bytes(view[-64:]).rstrip(b"\0")  # some cameras pad to a fixed buffer size
    if len(tail) < 2:
        tail = bytes(view).rstrip(b"\0")[-2:]
    if len(view) < 64 or view[0] != 0xFF or view[1] != SOI or not tail.endswith(bytes((0xFF, EOI))):
        raise DataError("broken JPEG from the camera: start or end marker is missing")
    for marker, segment in segments(view):
        if 0xC0 <= marker <= 0xCF and marker not in _NOT_SOF and len(segment) >= 9:
            height, width = int.from_bytes(segment[5:7], "big"), int.from_bytes(segment[7:9], "big")
            if height and width:
                return height, width
            break
    raise DataError("broken JPEG from the camera: no frame header")
