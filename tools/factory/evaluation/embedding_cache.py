"""A bundle's encoder that remembers: the embedding of a picture it has seen before is read back,
not computed."""

from __future__ import annotations

import hashlib
import io
import os
import zipfile
from pathlib import Path
from types import TracebackType

import numpy as np
from numpy.typing import NDArray

from edge_runtime.model.bundle import Bundle
from edge_runtime.model.encoder import Encoder
from edge_runtime.model.preprocess import Preprocessor
from edge_runtime.system.files import write_atomically

KEY_BYTES = 16
SAVED_EVERY = 500  # new pictures; an interrupted command then loses little


def cache_folder() -> Path:
    """Where the caches of the model factory stand unless told otherwise."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "edge-label"


class CachedEncoder:
    """One picture (H, W, 3) uint8 BGR -> its unit embedding (dim,) float32, by the bundle's own
    encoder.

    The file is named by the hash of encoder.onnx and rows are found by the picture's pixels, so
    nothing is ever out of date. Use as a context: what is new is written at the end. A file that
    cannot be read is made again.
    """

    def __init__(self, bundle: Bundle, folder: Path) -> None:
        # One thread: other work on a busy machine stalls two of them at every layer.
        self._prepare = Preprocessor(bundle.manifest.input)
        self._encode = Encoder(bundle, threads=1)
        digest, _ = bundle.manifest.files["encoder.onnx"]
        self._path = folder / f"embeddings-{digest[:16]}.npz"
        self._rows: dict[bytes, NDArray[np.float32]] = {}
        self._saved = 0
        try:
            with np.load(self._path, allow_pickle=False) as stored:
                self._rows = dict(zip(map(bytes, stored["keys"]), stored["rows"], strict=True))
            self._saved = len(self._rows)
        except (OSError, ValueError, KeyError, zipfile.BadZipFile):
            pass

    def __call__(self, picture: NDArray[np.uint8]) -> NDArray[np.float32]:
        """The embedding of one picture."""
        shape = "x".join(map(str, picture.shape)).encode()
        key = hashlib.blake2b(picture.tobytes(), digest_size=KEY_BYTES, person=shape).digest()
        row = self._rows.get(key)
        if row is None:
            row = self._rows[key] = self._encode(self._prepare(picture))
            if len(self._rows) - self._saved >= SAVED_EVERY:
                self.save()
        return row

    def save(self) -> None:
        """Write every row, atomically, where any is new. Raises DataError."""
        if len(self._rows) == self._saved:
            return
        data = io.BytesIO()
        keys = np.frombuffer(b"".join(self._rows), np.uint8).reshape(-1, KEY_BYTES)
        np.savez(data, keys=keys, rows=np.stack(list(self._rows.values())))
        write_atomically(self._path, data.getvalue())
        self._saved = len(self._rows)

    def __enter__(self) -> CachedEncoder:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.save()
