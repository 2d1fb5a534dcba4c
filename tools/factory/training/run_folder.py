"""A run folder as tools.distill leaves it: the recipe, and the student in the checkpoint."""

from __future__ import annotations

import io
import json
import shutil
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from edge_runtime.errors import DataError
from edge_runtime.system.files import write_atomically
from tools.factory.recipe import Recipe, load_recipe
from tools.factory.students.mobilenet import Conv
from tools.factory.students.student import Student, build_student
from tools.factory.training.checkpoint import read_checkpoint


def load_run(folder: Path) -> tuple[Recipe, Student, str]:
    """(recipe, student with its averaged weights in evaluation mode, text space) of a run folder.

    Raises NoInputError when recipe or checkpoint is missing, DataError when they do not belong
    together.
    """
    recipe = load_recipe(folder / "recipe.yaml")
    state = read_checkpoint(folder / "checkpoint.pt")
    weights = state["average"]

    # The last tensor of the head is the bias of its last layer, one number for each dimension.
    dim = next(reversed([t for name, t in weights.items() if name.startswith("head.")])).shape[0]
    student = build_student(recipe.student, dim, load=False)
    # Training may have inserted BatchNorm; the names in the checkpoint tell where.
    for name, module in student.backbone.named_modules():
        if isinstance(module, Conv):
            has_norm = f"backbone.{name}.norm.weight" in weights
            module.norm = nn.BatchNorm2d(module.conv.out_channels) if has_norm else nn.Identity()

    try:
        student.load_state_dict(weights)
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:200]
        raise DataError(
            f"{folder}: checkpoint and recipe do not belong together ({reason})"
        ) from error
    student.freeze(0)
    return recipe, student.eval().requires_grad_(False), str(state["text_space"])


def derive_run(
    run: Path,
    output: Path,
    average: dict[str, Tensor],
    note: str,
    facts: dict[str, Any],
    recipe: bytes = b"",
) -> None:
    """Copy a run to `output` with other averaged weights.

    Args:
        average: the new averaged weights.
        note, facts: `note`.json gets the facts, which say how the weights were computed.
        recipe: bytes of another recipe.yaml; the run's own where it is empty.

    The checkpoint is written last, so an interrupted copy is never taken for a run.
    """
    state = read_checkpoint(run / "checkpoint.pt") | {"average": average}
    output.mkdir(parents=True, exist_ok=True)
    for name in ("recipe.yaml", "log.jsonl", "broken.csv", "interpolation.json"):
        if (run / name).exists():
            shutil.copy(run / name, output / name)
    if recipe:
        write_atomically(output / "recipe.yaml", recipe)
    write_atomically(output / f"{note}.json", json.dumps(facts).encode())
    buffer = io.BytesIO()
    torch.save(state, buffer)
    write_atomically(output / "checkpoint.pt", buffer.getvalue())
