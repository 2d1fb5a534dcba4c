"""One distillation, from a recipe to a run folder."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch
import torch.distributed as dist

from edge_runtime.errors import UsageError
from edge_runtime.system.files import write_atomically
from tools.factory.recipe import Recipe
from tools.factory.students.student import Student, build_student
from tools.factory.teachers.teacher import Teacher
from tools.factory.training.features import FeatureCache
from tools.factory.training.frozen import frozen_layers
from tools.factory.training.materials import Materials, prepare, report_pictures
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
    """Train; True when the recipe's last step is done.

    Raises EdgeLabelError for everything that a user can correct.
    """
    if (output / "checkpoint.pt").exists() and not resume:
        raise UsageError(
            f"{output}: already holds a checkpoint", "add --resume or give another --output"
        )
    several = dist.is_initialized()
    first = not several or dist.get_rank() == 0
    torch.manual_seed(recipe.seed)
    teacher = make_teacher(recipe)

    # Process 0 fills the caches while the others wait; then these find them filled.
    if not first:
        dist.barrier()
    student, materials = prepare_training(
        recipe, teacher, data, cache, device, quiet=quiet or not first
    )
    if first and several:
        dist.barrier()

    output.mkdir(parents=True, exist_ok=True)
    trainer = Trainer(student, materials, output, device, quiet=quiet)
    if resume:
        trainer.resume()
    elif first:
        # A run that never reached its first checkpoint may have left a log.
        (output / "log.jsonl").unlink(missing_ok=True)
    if first:
        report_pictures(materials, output, quiet=quiet)
        if recipe_text:
            write_atomically(output / "recipe.yaml", recipe_text)
    return trainer.run(stop_after_s=stop_after_s, stop_at_step=steps, workers=workers)


def prepare_training(
    recipe: Recipe,
    teacher: Teacher,
    data: Path,
    cache: Path,
    device: torch.device,
    *,
    quiet: bool,
) -> tuple[Student, Materials]:
    """The student at its start, and all that its training reads."""
    materials = prepare(recipe, teacher, data, cache, quiet=quiet)
    student = build_student(recipe.student, materials.bank.shape[1])
    if recipe.targets.stem:
        views = materials.targets.views
        stems = cache_stems(student, recipe, materials.cache, views, cache, device, quiet=quiet)
        materials = replace(materials, stems=stems)
        if student.backbone.all_frozen:
            layers = frozen_layers(student, recipe, device)
            features = FeatureCache(layers, materials.cache, cache)
            materials = replace(materials, features=features)
    return student, materials
