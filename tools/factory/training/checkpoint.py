"""The file from which a training continues."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import torch

from edge_runtime.errors import DataError, NoInputError, first_line
from edge_runtime.system.files import write_atomically

SCHEMA = "edge-label-checkpoint/1"


def write_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Write the state atomically. Raises DataError on a full disk; the old file survives."""
    buffer = io.BytesIO()
    torch.save({"schema": SCHEMA, **state}, buffer)
    write_atomically(path, buffer.getvalue())


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint.

    Raises NoInputError when it is missing, DataError when it is not a checkpoint of this factory.
    """
    if not path.is_file():
        raise NoInputError(f"{path}: no checkpoint to continue from", "start without --resume")
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        # Damaged data makes the unpickler raise exceptions of any kind.
        raise DataError(f"{path}: not a checkpoint ({first_line(error)})") from error
    if not isinstance(state, dict) or state.get("schema") != SCHEMA:
        raise DataError(f"{path}: not a checkpoint of this version")
    return state
