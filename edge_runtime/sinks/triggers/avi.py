"""A clip of JPEGs as an AVI file (Motion JPEG), written frame by frame; nothing is encoded again.

Layout after Microsoft's "AVI RIFF File Reference": RIFF 'AVI ' { LIST hdrl { avih, LIST strl {
strh, strf } }, LIST movi { 00dc ... }, idx1 }. The sizes and the frame rate are filled in at the
end.
"""

from __future__ import annotations

import os
import struct
from pathlib import Path
from typing import BinaryIO

from edge_runtime.system.jpeg_bytes import jpeg_size

MAX_BYTES = (1 << 31) - 1  # sizes are 32-bit numbers, and many players read them as signed

_HAS_INDEX = 0x10  # AVIF_HASINDEX in avih
_KEY_FRAME = 0x10  # AVIIF_KEYFRAME in idx1
_CHUNK_HEADER = struct.Struct("<4sI")
_INDEX_ENTRY = struct.Struct("<4s3I")


class AviWriter:
    """Writes frames to a binary file that can seek."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._index: list[tuple[int, int]] = []  # (offset from 'movi', bytes) of each frame
        self._times: list[float] = []
        self._largest = 0  # bytes of the largest frame
        self._shape = (0, 0)

        # The headers come before the frames and are known only after them: leave room for them.
        self._movi = len(_headers((0, 0), 1.0, 0, 0)) + 8  # offset of 'movi', behind LIST and size
        self._end = self._movi + 4
        stream.write(b"\0" * self._end)

    @property
    def frames(self) -> int:
        """Frames written so far."""
        return len(self._index)

    @property
    def size(self) -> int:
        """Bytes of the finished file, index included."""
        return self._end + 8 + 16 * len(self._index)

    def size_with(self, jpeg: bytes) -> int:
        """``size`` after ``add(jpeg)``."""
        return self.size + 8 + len(jpeg) + len(jpeg) % 2 + 16

    def add(self, jpeg: bytes, time_s: float) -> None:
        """Append the frame of monotonic ``time_s``. Raises DataError for no JPEG, and OSError."""
        shape = jpeg_size(jpeg)
        if not self._index:
            self._shape = shape

        padded = jpeg + b"\0" * (len(jpeg) % 2)  # chunks begin at even offsets
        self._stream.write(_CHUNK_HEADER.pack(b"00dc", len(jpeg)) + padded)
        self._index.append((self._end - self._movi, len(jpeg)))
        self._times.append(time_s)
        self._largest = max(self._largest, len(jpeg))
        self._end += 8 + len(padded)

    @property
    def fps(self) -> float:
        """The mean frame rate, at which the file plays."""
        span_s = self._times[-1] - self._times[0] if self._times else 0.0
        return (len(self._times) - 1) / span_s if span_s > 0 else 1.0

    @property
    def offsets_s(self) -> list[float]:
        """When each frame was taken, in seconds after the first one."""
        return [round(time_s - self._times[0], 3) for time_s in self._times]

    def finish(self) -> None:
        """Write the index and the headers. The stream stays open. Raises OSError."""
        entries = b"".join(
            _INDEX_ENTRY.pack(b"00dc", _KEY_FRAME, offset, size) for offset, size in self._index
        )
        self._stream.write(_CHUNK_HEADER.pack(b"idx1", len(entries)) + entries)

        headers = _headers(self._shape, self.fps, len(self._index), self._largest)
        self._stream.seek(0)
        self._stream.write(_CHUNK_HEADER.pack(b"RIFF", self.size - 8) + headers[8:])
        self._stream.write(_CHUNK_HEADER.pack(b"LIST", self._end - self._movi) + b"movi")


def is_whole_avi(path: Path) -> bool:
    """Whether the file has the header of a finished AVI, and the size it gives. Raises OSError."""
    with path.open("rb") as stream:
        head = stream.read(12)
        size = stream.seek(0, os.SEEK_END)
    is_avi = head[:4] == b"RIFF" and head[8:] == b"AVI "
    return is_avi and int.from_bytes(head[4:8], "little") + 8 == size


def _headers(shape: tuple[int, int], fps: float, frames: int, largest: int) -> bytes:
    """RIFF and hdrl, up to where the movi LIST begins."""
    height, width = shape

    avih = struct.pack(
        "<14I",
        round(1e6 / fps),  # microseconds a frame
        0,
        0,
        _HAS_INDEX,
        frames,
        0,
        1,  # stream
        largest,
        width,
        height,
        *(0, 0, 0, 0),
    )

    # The frame rate is rate/scale, here with a scale of 1000.
    rate = max(1, round(fps * 1000))
    timing = struct.pack("<8I", 0, 1000, rate, 0, frames, largest, 0xFFFFFFFF, 0)
    rectangle = struct.pack("<4H", 0, 0, width, height)
    strh = struct.pack("<4s4sIHH", b"vids", b"MJPG", 0, 0, 0) + timing + rectangle

    # strf is a BITMAPINFOHEADER of 40 bytes: 1 plane, 24 bits a pixel.
    image_bytes = 3 * width * height
    strf = struct.pack("<IiiHH4sIiiII", 40, width, height, 1, 24, b"MJPG", image_bytes, 0, 0, 0, 0)

    strl = b"strl" + _chunk(b"strh", strh) + _chunk(b"strf", strf)
    hdrl = b"hdrl" + _chunk(b"avih", avih) + _chunk(b"LIST", strl)
    return _CHUNK_HEADER.pack(b"RIFF", 0) + b"AVI " + _chunk(b"LIST", hdrl)


def _chunk(name: bytes, data: bytes) -> bytes:
    return _CHUNK_HEADER.pack(name, len(data)) + data
