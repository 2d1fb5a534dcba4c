"""One distillation, from a recipe to a run folder."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch
import torch.distributed as dist

from edge_runtime.errors import UsageError
from edge_runtime.files import write_atomically
from tools.factory.recipe import Recipe
from tools.factory.students.student import build_student
from tools.factory.training.materials import prepare, report_pictures
from tools.factory.training.stems import cache_stems
from tools.factory.training.student_teacher import make_teacher
from tools.factory.training.trainer import Trainer


def distill(
    recipe: Recipe,
    *,
    data: Path,
    output: Path,
    cache: Path,
    device: torch.device,
    recipe_text: bytes = b"",
    resume: bool = False,
    stop_after_s: float = float("inf"),
    steps: int = 1 << 62,
    workers: int = 1,
    quiet: bool = False,
) -> bool:
    """Train; True when the recipe's last step is done. Raises EdgeLabelError for everything a user
    can mend."""
    first = not dist.is_initialized() or dist.get_rank() == 0
    if (output / "checkpoint.pt").exists() and not resume:
        raise UsageError(
            f"{output}: already holds a checkpoint", "add --resume or give another --output"
        )
    torch.manual_seed(recipe.seed)
    teacher = make_teacher(recipe)
    if not first:  # process 0 fills the caches, the others then find them
        dist.barrier()
    quiet_here = quiet or not first
    materials = prepare(recipe, teacher, data, cache, quiet=quiet_here)
    student = build_student(recipe.student, materials.bank.shape[1])
    if recipe.targets.stem:
        stems = cache_stems(
            student,
            recipe,
            materials.cache,
            materials.targets.views,
            cache,
            device,
            quiet=quiet_here,
        )
        materials = replace(materials, stems=stems)
    if first and dist.is_initialized():
        dist.barrier()
    output.mkdir(parents=True, exist_ok=True)
    trainer = Trainer(student, materials, output, device, quiet=quiet)
    if resume:
        trainer.resume()
    elif first:
        # of a run that never reached its first checkpoint
        (output / "log.jsonl").unlink(missing_ok=True)
    if first:
        report_pictures(materials, output, quiet=quiet)
        if recipe_text:
            write_atomically(output / "recipe.yaml", recipe_text)
    return trainer.run(stop_after_s=stop_after_s, stop_at_step=steps, workers=workers)
