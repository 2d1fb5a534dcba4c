"""What a distillation of many pictures will cost on this machine: time, memory and disk.

    python -m tools.measure.distil_cost my.yaml --data PICTURES

Runs the recipe's own steps on a few hundred of its pictures: decoding, the teacher's pass, and some
training steps at each stage's size. Then it multiplies. Export, quantisation and the bundle are not
in it: they take minutes, however many pictures there are. Weights do not change the time, so a
random teacher of the same shape gives the same figures. On a machine that does other things too,
--processor-time counts the time of the processor: divide it by the number of cores.
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
import tempfile
import time
import tracemalloc
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from tools.factory.data.augment import VIEW
from tools.factory.data.pictures import cache_pictures
from tools.factory.data.samples import scan
from tools.factory.recipe import Recipe, StageRecipe, load_recipe
from tools.factory.students.student import build_student
from tools.factory.teachers.targets import cache_targets
from tools.factory.teachers.texts import embed_texts, load_bank
from tools.factory.training.batches import Batches
from tools.factory.training.materials import Materials
from tools.factory.training.processes import join_processes, keep_freed_memory
from tools.factory.training.student_teacher import make_teacher
from tools.factory.training.trainer import Trainer
from tools.lib.command import run_verb, verb_parser
from tools.lib.markdown import table

Clock = Callable[[], float]
PICTURES = [10_000, 100_000, 1_000_000]
WARM_STEPS = 2  # not timed: allocations, and the choice of kernels on a GPU


@dataclass(frozen=True)
class Rates:
    """What one picture costs.

    Attributes:
        decode_s: to decode it once and keep it.
        teacher_s: of the teacher's time, for all its views.
        train_s: of training, in all epochs of all stages.
        memory_b: of memory that grows with the number of pictures.
        disk_b: of the cache of pictures and targets.
        base_b: peak memory of the process on the sample, whatever the number of pictures.
    """

    decode_s: float
    teacher_s: float
    train_s: float
    memory_b: float
    disk_b: float
    base_b: float


def measure(
    recipe: Recipe, data: Path, cache: Path, device: torch.device, *, steps: int, clock: Clock
) -> Rates:
    """Run the steps of a recipe on its pictures, and say what one of them costs."""
    started = clock()
    pictures = cache_pictures(scan(recipe.data, data), recipe.input, cache, quiet=True)
    decode_s = clock() - started

    teacher = make_teacher(recipe)
    bank = load_bank(teacher, recipe.bank)
    texts = embed_texts(teacher, recipe.data, pictures)
    started = clock()
    targets = cache_targets(teacher, recipe, pictures, cache, quiet=True)
    teacher_s = clock() - started

    materials = Materials(recipe, pictures, targets, texts, bank, teacher.text_space)
    train_s = sum(
        stage.epochs * _seconds_a_picture(materials, stage, cache, device, steps=steps, clock=clock)
        for stage in recipe.train.stages
    )
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    count = len(pictures.samples)
    planes = targets.embeddings.shape[0]
    target_b = planes * (2 * targets.embeddings.shape[2] + VIEW.itemsize)
    return Rates(
        decode_s / count,
        teacher_s / count,
        train_s,
        _growing_memory(materials, data) / count,
        3 * recipe.input.cache_size**2 + target_b,
        peak,
    )


def _seconds_a_picture(
    materials: Materials,
    stage: StageRecipe,
    folder: Path,
    device: torch.device,
    *,
    steps: int,
    clock: Clock,
) -> float:
    """Seconds of training for one picture at a stage's size, once the first steps are over."""
    # Each picture many times in one epoch: at the end of one, validation would be timed too.
    data = tuple(replace(source, weight=1000) for source in materials.recipe.data)
    train = replace(materials.recipe.train, stages=(replace(stage, epochs=1),))
    recipe = replace(materials.recipe, data=data, train=train)
    dim = materials.bank.shape[1]
    with tempfile.TemporaryDirectory(dir=folder) as output:
        trainer = Trainer(
            build_student(recipe.student, dim),
            replace(materials, recipe=recipe),
            Path(output),
            device,
            quiet=True,
        )
        trainer.run(stop_at_step=WARM_STEPS)
        started = clock()
        trainer.run(stop_at_step=WARM_STEPS + steps)
        if device.type == "cuda":
            torch.cuda.synchronize()
        seconds = clock() - started
    return seconds / (steps * recipe.train.batch)


def _growing_memory(materials: Materials, data: Path) -> int:
    """Bytes that are held for the list of pictures, their stored views, and their order."""
    tracemalloc.start()
    try:
        samples = scan(materials.recipe.data, data)
        batches = Batches(materials)
        order = batches.order(0)
        held = tracemalloc.get_traced_memory()[0]
        del samples, batches, order
    finally:
        tracemalloc.stop()
    views = materials.targets.views
    return held + (0 if views is None else views.nbytes)


def as_table(rates: Rates, counts: list[int]) -> str:
    """One row for each number of pictures."""
    rows = [
        [
            f"{count:,}",
            _duration(count * rates.decode_s),
            _duration(count * rates.teacher_s),
            _duration(count * rates.train_s),
            _duration(count * (rates.decode_s + rates.teacher_s + rates.train_s)),
            _size(rates.base_b + count * rates.memory_b),
            _size(count * rates.disk_b),
        ]
        for count in counts
    ]
    head = ["pictures", "decode", "teacher", "train", "in all", "memory", "disk"]
    return table(head, rows, "r")


def _duration(seconds: float) -> str:
    for unit, length in (("days", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} s"


def _size(count: float) -> str:
    for unit, length in (("TB", 1e12), ("GB", 1e9)):
        if count >= length:
            return f"{count / length:.1f} {unit}"
    return f"{count / 1e6:.0f} MB"


def few(recipe: Recipe, pictures: int) -> Recipe:
    """The same recipe with about so many pictures, evenly from its sources."""
    share = max(1, pictures // len(recipe.data))
    limits = [min(source.limit or share, share) for source in recipe.data]
    data = zip(recipe.data, limits, strict=True)
    return replace(recipe, data=tuple(replace(source, limit=limit) for source, limit in data))


def main(argv: list[str] | None = None) -> int:
    """Run the measurement; returns the exit code."""
    return run_verb(_parser(), _distil_cost, argv)


def _distil_cost(args: argparse.Namespace) -> str:
    keep_freed_memory()
    recipe = few(load_recipe(args.recipe), args.sample)
    device = join_processes(args.device)
    with tempfile.TemporaryDirectory() as folder:
        clock = time.process_time if args.processor_time else time.perf_counter
        rates = measure(recipe, args.data, Path(folder), device, steps=args.steps, clock=clock)
    return json.dumps(vars(rates), indent=1) if args.json else as_table(rates, args.pictures)


def _parser() -> argparse.ArgumentParser:
    parser = verb_parser("tools.measure.distil_cost", __doc__, whole=True)
    add = parser.add_argument
    add("recipe", type=Path, help="the recipe that you will run")
    add("--data", type=Path, default=Path(), help="folder the recipe's picture paths start from")
    add("--pictures", type=int, nargs="+", default=PICTURES, metavar="N", help="how many to expect")
    add("--sample", type=int, default=512, metavar="N", help="pictures to measure with (512)")
    add("--steps", type=int, default=10, metavar="N", help="training steps to time (10)")
    add("--device", default="auto", help="auto, cpu or cuda")
    add("--processor-time", action="store_true", help="of all cores together, in place of hours")
    add("--json", action="store_true", help="what one picture costs, machine-readable")
    return parser


if __name__ == "__main__":
    sys.exit(main())
