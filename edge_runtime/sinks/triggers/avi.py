"""A clip of JPEGs as an AVI file (Motion JPEG), written as the frames come, without encoding anything again.

Layout after Microsoft's "AVI RIFF File Reference": RIFF 'AVI ' { LIST hdrl { avih, LIST strl { strh, strf } },
LIST movi { 00dc ... }, idx1 }. Sizes and the frame rate are filled in at the end.
"""

from __future__ import annotations

import os
import struct
from pathlib import Path
from typing import BinaryIO

from edge_runtime.system.jpeg_bytes import jpeg_size

_HAS_INDEX = 0x10
_KEY_FRAME = 0x10
_FOUR = struct.Struct("<4sI")
MAX_BYTES = (1 << 31) - 1  # sizes are 32-bit numbers, and many players read them as signed


class AviWriter:
    """Writes frames to a seekable binary file. ``size`` is what the finished file will have, in bytes."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._index: list[tuple[int, int]] = []
        self._times: list[float] = []
        self._largest = 0
        self._shape = (0, 0)
        self._movi = len(_headers((0, 0), 1.0, 0, 0)) + 8  # where the 'movi' of the LIST stands
        self._at = self._movi + 4
        stream.write(b"\0" * self._at)

    @property
    def frames(self) -> int:
        """Frames written so far."""
        return len(self._index)

    @property
    def size(self) -> int:
        """Bytes of the file, index included."""
        return self._at + 8 + 16 * len(self._index)

    def size_with(self, jpeg: bytes) -> int:
        """``size`` after ``add(jpeg)``."""
        return self.size + 8 + len(jpeg) + len(jpeg) % 2 + 16

    def add(self, jpeg: bytes, time_s: float) -> None:
        """Append a frame taken at monotonic ``time_s``. Raises DataError for bytes that are no JPEG, OSError."""
        shape = jpeg_size(jpeg)
        if not self._index:
            self._shape = shape
        padded = jpeg + b"\0" * (len(jpeg) % 2)
        self._stream.write(_FOUR.pack(b"00dc", len(jpeg)) + padded)
        self._index.append((self._at - self._movi, len(jpeg)))
        self._times.append(time_s)
        self._largest = max(self._largest, len(jpeg))
        self._at += 8 + len(padded)

    @property
    def fps(self) -> float:
        """The mean frame rate, which is the one the file plays at."""
        span = self._times[-1] - self._times[0] if self._times else 0.0
        return (len(self._times) - 1) / span if span > 0 else 1.0

    @property
    def offsets_s(self) -> list[float]:
        """When each frame was taken, in seconds after the first."""
        return [round(time_s - self._times[0], 3) for time_s in self._times]

    def finish(self) -> None:
        """Write the index and the headers; the stream stays open."""
        entries = b"".join(
            struct.pack("<4s3I", b"00dc", _KEY_FRAME, *entry) for entry in self._index
        )
        self._stream.write(_FOUR.pack(b"idx1", len(entries)) + entries)
        head = _headers(self._shape, self.fps, len(self._index), self._largest)
        self._stream.seek(0)
        self._stream.write(_FOUR.pack(b"RIFF", self.size - 8) + head[8:])
        self._stream.write(_FOUR.pack(b"LIST", self._at - self._movi) + b"movi")


def is_whole_avi(path: Path) -> bool:
    """Whether a file has the header of an AVI that was finished, and the size the header says. Raises OSError."""
    with path.open("rb") as stream:
        head = stream.read(12)
        size = stream.seek(0, os.SEEK_END)
    return (
        head[:4] == b"RIFF"
        and head[8:] == b"AVI "
        and int.from_bytes(head[4:8], "little") + 8 == size
    )


def _headers(shape: tuple[int, int], fps: float, frames: int, largest: int) -> bytes:
    """RIFF and hdrl, up to where the movi LIST begins."""
    height, width = shape
    rate = max(1, round(fps * 1000))
    avih = struct.pack(
        "<14I", round(1e6 / fps), 0, 0, _HAS_INDEX, frames, 0, 1, largest, width, height, 0, 0, 0, 0
    )
    rect = struct.pack("<4H", 0, 0, width, height)
    timing = struct.pack("<8I", 0, 1000, rate, 0, frames, largest, 0xFFFFFFFF, 0)
    strh = struct.pack("<4s4sIHH", b"vids", b"MJPG", 0, 0, 0) + timing + rect
    strf = struct.pack(
        "<IiiHH4sIiiII", 40, width, height, 1, 24, b"MJPG", 3 * width * height, 0, 0, 0, 0
    )
    strl = b"strl" + _chunk(b"strh", strh) + _chunk(b"strf", strf)
    return (
        _FOUR.pack(b"RIFF", 0)
        + b"AVI "
        + _chunk(b"LIST", b"hdrl" + _chunk(b"avih", avih) + _chunk(b"LIST", strl))
    )


def _chunk(name: bytes, data: bytes) -> bytes:
    return _FOUR.pack(name, len(data)) + data
