"""Weights between those before and those after training (WiSE-FT, Wortsman et al., CVPR 2022)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from edge_runtime.errors import ConfigError
from tools.factory.students.bundle_start import BUNDLE
from tools.factory.students.student import Student, build_student
from tools.factory.training.materials import prepare
from tools.factory.training.run_folder import derive_run, load_run
from tools.factory.training.scoring import score_held_out
from tools.factory.training.student_teacher import make_teacher
from tools.lib import markdown

SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)


def between(start: dict[str, Tensor], end: dict[str, Tensor], share: float) -> dict[str, Tensor]:
    """start + share * (end - start), tensor by tensor; counters of steps are those of the end."""
    return {
        name: torch.lerp(start[name], tensor, share) if tensor.is_floating_point() else tensor
        for name, tensor in end.items()
    }


def start_and_end(run: Path) -> tuple[Student, dict[str, Tensor], dict[str, Tensor]]:
    """(the run's student, its weights before training, its averaged weights after).

    The start is built again from the recipe, so nothing in it may be random or measured. Raises
    ConfigError where something is.
    """
    recipe, student, _ = load_run(run)
    head = recipe.student.head
    from_bundle = recipe.student.pretrained.startswith(BUNDLE)
    measured = not from_bundle and (head.kind != "classifier" or head.rank)
    if measured or recipe.train.norm_batches:
        raise ConfigError(
            f"{run}: its weights before training are unknown",
            "this needs train.norm_batches 0, and a start from a bundle or student.head.kind "
            "classifier with rank 0",
        )
    end = {name: tensor.clone() for name, tensor in student.state_dict().items()}
    # The last tensor of the head is the bias of its last layer, one number for each dimension.
    outputs = next(reversed(end.values())).shape[0]
    return student, build_student(recipe.student, outputs).state_dict(), end


def write_share(run: Path, share: float, output: Path) -> None:
    """Copy a run to `output` with its averaged weights moved back to `share` of the way."""
    _, start, end = start_and_end(run)
    derive_run(
        run, output, between(start, end, share), "interpolation", {"share": share, "run": run.name}
    )


def compare_shares(run: Path, data: Path, cache: Path, shares: list[float]) -> None:
    """Print a Markdown table of held-out scores at each share, row by row."""
    recipe, _, _ = load_run(run)
    student, start, end = start_and_end(run)
    materials = prepare(recipe, make_teacher(recipe), data, cache, quiet=True)
    held_out = [row for row, sample in enumerate(materials.cache.samples) if sample.held_out]
    rows = np.array(held_out, np.int64)

    for number, share in enumerate(shares):
        student.load_state_dict(between(start, end, share))
        scores = score_held_out(student, materials, rows, torch.device("cpu"))
        by_source = scores["top1"]
        if not isinstance(by_source, dict):
            by_source = {}
        names = [*by_source, "mean_top1", "small_top1", "conditions"]
        if not number:
            # The sources are known only now. A row takes a while, so each is printed at once.
            print(markdown.table(["share", *names], [], "r"))

        flat: dict[str, Any] = {**by_source, **scores}
        cells = [f"{100 * float(flat[name]):.1f}" for name in names]
        print(markdown.row([f"{share:.2f}", *cells]), flush=True)
