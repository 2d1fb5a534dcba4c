"""Reading ``.npy`` bytes that came from outside: header first, no pickle, no surprise allocation."""

from __future__ import annotations

import io
import warnings

import numpy as np
from numpy.typing import NDArray

from edge_runtime.errors import BundleError, first_line

MAX_ROWS = 1_000_000
MAX_DIM = 4096


def read_embeddings(data: bytes, where: str) -> NDArray[np.float16]:
    """Unit-norm embeddings from ``.npy`` bytes.

    Returns float16 of shape (rows, dim), a view of ``data``. Raises BundleError for anything that is not a
    C-ordered float16 or float32 matrix of exactly the bytes its header promises, with finite unit-norm rows.
    """
    stream = io.BytesIO(data)
    try:
        version = np.lib.format.read_magic(stream)
        if version not in ((1, 0), (2, 0)):
            raise ValueError(f"format version {version}")
        read_header = (
            np.lib.format.read_array_header_1_0
            if version == (1, 0)
            else np.lib.format.read_array_header_2_0
        )
        with warnings.catch_warnings(
            action="ignore"
        ):  # Python's parser has opinions about backslashes in a broken one
            shape, fortran, dtype = read_header(stream, max_header_size=4096)
    except Exception as error:
        raise BundleError(
            f"{where}: not a NumPy array file ({first_line(error)})", "reinstall the bundle"
        ) from None
    if dtype.hasobject or dtype not in (np.dtype("<f2"), np.dtype("<f4")):
        raise BundleError(
            f"{where}: holds {dtype}, expected float16 numbers", "reinstall the bundle"
        )
    if fortran or len(shape) != 2 or not (0 < shape[0] <= MAX_ROWS and 0 < shape[1] <= MAX_DIM):
        raise BundleError(f"{where}: shape {shape} is not (rows, dim)", "reinstall the bundle")
    expected = shape[0] * shape[1] * dtype.itemsize
    if len(data) - stream.tell() != expected:
        raise BundleError(
            f"{where}: header promises {expected} bytes, {len(data) - stream.tell()} follow",
            "reinstall",
        )
    rows = np.frombuffer(data, dtype, offset=stream.tell()).reshape(shape)
    # Summed in blocks, so that checking a large bank does not cost a float32 copy of all of it.
    for start in range(0, len(rows), 4096):
        block = rows[start : start + 4096].astype(np.float32)
        norms = np.sqrt(np.einsum("ij,ij->i", block, block))
        bad = np.flatnonzero(~(np.abs(norms - 1) < 0.01))  # also catches NaN
        if len(bad):
            raise BundleError(
                f"{where}: row {start + bad[0]} has norm {norms[bad[0]]:.3g}, not 1",
                "rebuild the bank",
            )
    return rows.astype(np.float16, copy=False)
