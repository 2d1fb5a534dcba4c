"""Reading ``.npy`` bytes that a stranger may have made: header first, no pickle, no allocation.

``np.load`` does more than is wanted here: it reads zip archives, and it allocates as much as the
header says before it looks at what follows.
"""

from __future__ import annotations

import io
import warnings

import numpy as np
from numpy.typing import NDArray

from edge_runtime.errors import BundleError, first_line

MAX_ROWS = 1_000_000
MAX_DIM = 4096
MAX_HEADER_BYTES = 4096  # NumPy parses the header as Python; a long one costs time and memory

_HEADER_READERS = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}
_TYPES = (np.dtype("<f2"), np.dtype("<f4"))
_BLOCK_ROWS = 4096
_MAX_DEVIATION = 0.01  # of a row's norm from 1; rounding to float16 stays below 0.001


def read_embeddings(data: bytes, where: str) -> NDArray[np.float16]:
    """Unit-norm embeddings from ``.npy`` bytes.

    Returns float16 (rows, dim): a view of ``data``, or a copy where the numbers are float32.
    Raises BundleError for anything that is not a C-ordered float16 or float32 matrix of exactly the
    bytes its header promises, with finite unit-norm rows.
    """
    stream = io.BytesIO(data)
    shape, fortran, dtype = _read_header(stream, where)

    if dtype.hasobject or dtype not in _TYPES:
        raise BundleError(
            f"{where}: holds {dtype}, expected float16 numbers", "reinstall the bundle"
        )
    if fortran or len(shape) != 2 or not (0 < shape[0] <= MAX_ROWS and 0 < shape[1] <= MAX_DIM):
        raise BundleError(f"{where}: shape {shape} is not (rows, dim)", "reinstall the bundle")

    start = stream.tell()
    promised = shape[0] * shape[1] * dtype.itemsize
    if len(data) - start != promised:
        raise BundleError(
            f"{where}: header promises {promised} bytes, {len(data) - start} follow",
            "reinstall the bundle",
        )

    rows = np.frombuffer(data, dtype, offset=start).reshape(shape)
    _check_norms(rows, where)
    return rows.astype(np.float16, copy=False)


def _read_header(
    stream: io.BytesIO, where: str
) -> tuple[tuple[int, ...], bool, np.dtype[np.generic]]:
    """Shape, whether in Fortran order, and dtype. The stream then stands at the numbers."""
    try:
        version = np.lib.format.read_magic(stream)
        if version not in _HEADER_READERS:
            raise ValueError(f"format version {version}")

        # Python's parser warns of a backslash in a damaged header; the user gets one line, no more.
        with warnings.catch_warnings(action="ignore"):
            return _HEADER_READERS[version](stream, max_header_size=MAX_HEADER_BYTES)
    except Exception as error:  # the parser raises whatever Python's raises
        raise BundleError(
            f"{where}: not a NumPy array file ({first_line(error)})", "reinstall the bundle"
        ) from error


def _check_norms(rows: NDArray[np.floating], where: str) -> None:
    # In blocks, so that the check of a large bank does not cost a float32 copy of all of it.
    for start in range(0, len(rows), _BLOCK_ROWS):
        block = rows[start : start + _BLOCK_ROWS].astype(np.float32)
        norms = np.sqrt(np.einsum("ij,ij->i", block, block))

        # Not "deviation >= limit": a comparison with NaN is false, and NaN must be caught.
        bad = np.flatnonzero(~(np.abs(norms - 1) < _MAX_DEVIATION))
        if len(bad):
            raise BundleError(
                f"{where}: row {start + bad[0]} has norm {norms[bad[0]]:.3g}, not 1",
                "rebuild the bank",
            )
