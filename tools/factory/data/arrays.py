"""Arrays on disk that are whole or absent."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_runtime.system.files import write_atomically


def write_array(path: Path, array: NDArray[Any]) -> None:
    """Write an .npy file atomically: half of one would stop every later run. Raises DataError."""
    data = io.BytesIO()
    np.save(data, array, allow_pickle=False)
    write_atomically(path, data.getvalue())
