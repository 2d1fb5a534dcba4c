"""Embeddings of pictures that were encoded before, by the hash of the picture's file.

One file for each encoder, below the state directory. A record is the hash, the embedding and a
checksum; records are only ever added. A cache that cannot be read or written costs time and nothing
else.
"""

from __future__ import annotations

import logging
import os
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge_runtime.errors import one_line

log = logging.getLogger("edge_label")

MAX_BYTES = 64 << 20  # 32,000 pictures; a larger cache is begun anew
_HASH_BYTES = 32
_CHECKSUM_BYTES = 4


class PictureCache:
    """Embeddings, float32 (dim,), by the sha256 of pictures, for one encoder."""

    def __init__(self, folder: Path | None, encoder: str, dim: int) -> None:
        """``folder`` is None for a user without a home: nothing is remembered then."""
        self._dim = dim
        self._record_bytes = _HASH_BYTES + 4 * dim + _CHECKSUM_BYTES
        self._places: dict[bytes, int] = {}
        self._fd = -1
        if folder is None:
            return

        self.path = folder / f"pictures-{encoder[:16]}.cache"
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._open()
        except OSError as error:
            self._give_up(error)

    def get(self, sha256: str) -> NDArray[np.float32] | None:
        """The embedding of a picture, None where it is not known."""
        place = self._places.get(bytes.fromhex(sha256))
        if place is None or self._fd < 0:
            return None
        try:
            record = os.pread(self._fd, self._record_bytes, place)
        except OSError:
            return None

        body = record[:-_CHECKSUM_BYTES]
        if len(record) != self._record_bytes or _checksum(body) != record[-_CHECKSUM_BYTES:]:
            return None
        return np.frombuffer(body, "<f4", offset=_HASH_BYTES)

    def put(self, sha256: str, embedding: NDArray[np.float32]) -> None:
        """Remember an embedding. On a full disk the cache is given up, in one line of the log."""
        if self._fd < 0:
            return
        body = bytes.fromhex(sha256) + embedding.astype("<f4").tobytes()
        try:
            written = os.write(self._fd, body + _checksum(body))
        except OSError as error:
            self._give_up(error)
            return
        if written != self._record_bytes:  # a disk that is nearly full takes a part
            self.close()

    def close(self) -> None:
        """Close the file; nothing is remembered any more."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _open(self) -> None:
        flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        self._fd = os.open(self.path, flags, 0o600)
        size = os.fstat(self._fd).st_size
        whole = size - size % self._record_bytes
        if size > MAX_BYTES:
            whole = 0
        if whole != size:  # the last record may have been cut off
            os.ftruncate(self._fd, whole)

        for place in range(0, whole, self._record_bytes):
            sha256 = os.pread(self._fd, _HASH_BYTES, place)
            self._places[sha256] = place

    def _give_up(self, error: OSError) -> None:
        log.warning("%s: pictures are not remembered: %s", self.path, one_line(error))
        self.close()


def _checksum(data: bytes) -> bytes:
    return zlib.crc32(data).to_bytes(_CHECKSUM_BYTES, "little")
