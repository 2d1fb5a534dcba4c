"""Writing files so that a crash or a full disk leaves the old one whole."""

from __future__ import annotations

import os
from pathlib import Path

from edge_runtime.errors import DataError


def write_atomically(path: Path, data: bytes, *, mode: int | None = None, durable: bool = True) -> None:
    """Write beside ``path``, flush to disk, rename over it. Raises DataError; what stood there is then unchanged.

    ``mode`` overrides the umask. Without ``durable`` nothing is forced to disk: for what is soon written again.
    """
    partial = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with partial.open("wb") as stream:
            stream.write(data)
            if mode is not None:
                os.fchmod(stream.fileno(), mode)
            stream.flush()
            if durable:
                os.fsync(stream.fileno())
        partial.replace(path)
    except OSError as error:
        try:
            partial.unlink(missing_ok=True)
        except OSError:  # where a folder of the path is a file, there is nothing to take away either
            pass
        raise DataError(f"{path}: cannot write: {error.strerror}; what stood there before is unchanged") from None
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
