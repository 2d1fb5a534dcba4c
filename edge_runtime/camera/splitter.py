"""Pictures out of a stream of bytes: JPEGs by their markers, raw pictures by their size.

Whatever the bytes are, no more than `LIMIT` of them are kept.
"""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from edge_runtime.errors import DataError
from edge_runtime.records import Encoding
from edge_runtime.system.jpeg_bytes import EOI, JPEG_START, SOS

LIMIT = 1 << 24  # bytes; a JPEG of 64 megapixels is about as large

# A marker follows the start of every JPEG, and rarely the same two bytes elsewhere.
_START = JPEG_START + b"\xff"
_END = bytes((0xFF, EOI))
_ALONE = range(0xD0, 0xDA)  # markers without a segment: none of them belongs in the headers


class Splitter(Protocol):
    """Cuts a stream into pictures.

    Attributes:
        encoding: Of every picture.
        unused: How many bytes came since the last picture.
    """

    encoding: Encoding
    unused: int

    def feed(self, data: bytes) -> list[NDArray[Any]]:
        """The pictures that are complete with ``data``, oldest first."""


class JpegSplitter:
    """JPEGs back to back, with or without other bytes between them.

    Each is uint8 (n,). The segments before the picture data are stepped over by their lengths: a
    thumbnail in them is no picture. One that was cut off, so that another begins before it ends, is
    left out.
    """

    encoding: Encoding = "mjpg"

    def __init__(self) -> None:
        self.unused = 0
        self._buffer = bytearray()
        # How far the picture at the start of the buffer is known; 0: none begins there.
        self._at = 0
        # The headers are complete, and what follows is picture data.
        self._in_scan = False

    def feed(self, data: bytes) -> list[NDArray[np.uint8]]:
        """Raises DataError where `LIMIT` bytes hold no picture."""
        self._buffer += data
        self.unused += len(data)

        pictures: list[NDArray[np.uint8]] = []
        while self._find_start() and self._step_over_headers() and self._find_end(pictures):
            pass

        if self.unused > LIMIT:
            raise DataError(f"no picture in {LIMIT >> 20} MB")
        return pictures

    def _find_start(self) -> bool:
        """Drop what stands before the next picture; False where none begins."""
        if self._at:
            return True

        start = self._buffer.find(_START)
        if start < 0:
            # The last two bytes may be the first of a start.
            del self._buffer[: max(0, len(self._buffer) - len(_START) + 1)]
            return False
        self._begin(start)
        return True

    def _begin(self, start: int) -> None:
        del self._buffer[:start]
        self._at = len(JPEG_START)
        self._in_scan = False

    def _step_over_headers(self) -> bool:
        """Go on to the picture data; False where more bytes are needed."""
        while not self._in_scan:
            header = self._buffer[self._at : self._at + 4]
            if len(header) < 4:
                return False

            marker = header[1]
            if header[0] != 0xFF or marker in _ALONE or marker == 0:
                if not self._give_up():
                    return False
            elif marker == 0xFF:  # any number of these may stand before a marker
                self._at += 1
            else:
                self._in_scan = marker == SOS
                self._at += 2 + int.from_bytes(header[2:4], "big")
        return True

    def _give_up(self) -> bool:
        """What looked like a picture is none: look for the next start behind its own."""
        del self._buffer[: len(JPEG_START)]
        self._at = 0
        return self._find_start()

    def _find_end(self, pictures: list[NDArray[np.uint8]]) -> bool:
        """Add the picture to ``pictures``, or go on to one that begins within it.

        False where more bytes are needed. Picture data holds neither of the two markers, for a 0xFF
        in it is followed by a zero.
        """
        end = self._buffer.find(_END, self._at)
        next_start = self._buffer.find(_START, self._at, end if end >= 0 else len(self._buffer))
        if next_start >= 0:
            self._begin(next_start)
            return True
        if end < 0:
            self._at = max(self._at, len(self._buffer) - len(_START) + 1)
            return False

        size = end + len(_END)
        pictures.append(np.frombuffer(self._buffer[:size], np.uint8))
        del self._buffer[:size]
        self._at = 0
        self.unused = len(self._buffer)
        return True


class RawSplitter:
    """Uncompressed pictures of one size, back to back, nothing between them."""

    def __init__(self, encoding: Encoding, shape: tuple[int, ...], dtype: type[np.generic]) -> None:
        self.encoding = encoding
        self.unused = 0
        self._shape = shape
        self._dtype = np.dtype(dtype)
        self._size = int(np.prod(shape)) * self._dtype.itemsize
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[NDArray[Any]]:
        """Pictures of the shape and dtype that were given."""
        self._buffer += data
        pictures = []
        while len(self._buffer) >= self._size:
            flat = np.frombuffer(self._buffer[: self._size], self._dtype)
            pictures.append(flat.reshape(self._shape))
            del self._buffer[: self._size]
        self.unused = len(self._buffer)
        return pictures
