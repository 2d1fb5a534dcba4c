"""Distil a student from a teacher, as a recipe says: `python -m tools.distill RECIPE --data DIR --output DIR`.

Writes to --output: checkpoint.pt (the whole state; --resume goes on from it, to the same bits), log.jsonl,
broken.csv (pictures that could not be read) and recipe.yaml. With several GPUs:
`torchrun --nproc-per-node 4 -m tools.distill RECIPE ...`.
"""

from __future__ import annotations

import argparse
import functools
import os
import sys
from dataclasses import replace
from pathlib import Path

import torch
import torch.distributed as dist
from tqdm import tqdm

from edge_runtime.errors import EdgeLabelError, UsageError
from edge_runtime.files import write_atomically
from tools.factory.datasets import cache_pictures, scan, write_broken_list
from tools.factory.recipe import Recipe, TeacherRecipe, load_recipe
from tools.factory.run import StudentTeacher
from tools.factory.sentence_map import SentenceMap
from tools.factory.stems import cache_stems
from tools.factory.students import build_student
from tools.factory.targets import cache_targets, embed_texts, load_bank
from tools.factory.teachers import Teacher, load_teacher
from tools.factory.training import Materials, Trainer, join_processes, keep_freed_memory


def main(argv: list[str] | None = None) -> int:
    """Run the verb; returns the exit code."""
    args = _parser().parse_args(argv)
    try:
        keep_freed_memory()
        recipe = load_recipe(args.recipe)
        device = join_processes(args.device)
        finished = distill(
            recipe,
            data=args.data,
            output=args.output,
            cache=args.cache or args.output / "cache",
            recipe_text=args.recipe.read_bytes(),
            resume=args.resume,
            stop_after_s=args.stop_after * 60,
            steps=args.steps,
            workers=args.workers,
            device=device,
            quiet=args.quiet,
        )
    except EdgeLabelError as error:
        print(f"distill: {error}", file=sys.stderr)
        return error.exit_code
    finally:
        if dist.is_initialized():
            dist.destroy_process_group()
    if not finished:
        print(f"stopped before the end; go on with: --resume --output {args.output}", file=sys.stderr)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tools.distill", description=__doc__.split("\n\n")[0])
    parser.add_argument("recipe", type=Path, help="a recipe, e.g. tools/recipes/edge-clip.yaml")
    parser.add_argument("--data", type=Path, default=Path(), help="folder the recipe's picture paths are relative to")
    parser.add_argument("--output", type=Path, required=True, help="folder for checkpoint, log and lists")
    parser.add_argument("--cache", type=Path, help="folder for decoded pictures and teacher targets (OUTPUT/cache)")
    parser.add_argument("--resume", action="store_true", help="go on from OUTPUT/checkpoint.pt")
    parser.add_argument("--stop-after", type=float, default=float("inf"), metavar="MINUTES", help="stop and save then")
    parser.add_argument("--steps", type=int, default=1 << 62, help="stop and save at this step")
    parser.add_argument(
        "--workers", type=int, default=max(1, min(8, (os.cpu_count() or 2) // 2)), help="loader threads"
    )
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda")
    parser.add_argument("--quiet", action="store_true", help="no progress bar")
    return parser


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
    """Train; True when the recipe's last step is done. Raises EdgeLabelError for everything a user can mend."""
    first = not dist.is_initialized() or dist.get_rank() == 0
    if (output / "checkpoint.pt").exists() and not resume:
        raise UsageError(f"{output}: already holds a checkpoint; add --resume or give another --output")
    torch.manual_seed(recipe.seed)
    teacher = make_teacher(recipe)
    if not first:  # process 0 fills the caches, the others then find them
        dist.barrier()
    quiet_here = quiet or not first
    materials = prepare(recipe, teacher, data, cache, quiet=quiet_here)
    student = build_student(recipe.student, materials.bank.shape[1])
    if recipe.targets.stem:
        stems = cache_stems(student, recipe, materials.cache, materials.targets.views, cache, device, quiet=quiet_here)
        materials = replace(materials, stems=stems)
    if first and dist.is_initialized():
        dist.barrier()
    output.mkdir(parents=True, exist_ok=True)
    trainer = Trainer(student, materials, output, device, quiet=quiet)
    if resume:
        trainer.resume()
    elif first:
        (output / "log.jsonl").unlink(missing_ok=True)  # of a run that never reached its first checkpoint
    if first:
        report_pictures(materials, output, quiet=quiet)
        if recipe_text:
            write_atomically(output / "recipe.yaml", recipe_text)
    return trainer.run(stop_after_s=stop_after_s, stop_at_step=steps, workers=workers)


def make_teacher(recipe: Recipe) -> Teacher:
    """The teacher of a recipe."""
    return teacher_of(recipe.teacher)


def teacher_of(recipe: TeacherRecipe) -> Teacher:
    """Make a teacher; the offline one gets a sentence encoder for phrases its bank does not hold.

    "run:FOLDER" is the student of an earlier run, with the text tower of its own teacher.
    """
    if recipe.name.startswith("run:"):
        return StudentTeacher(Path(recipe.name.removeprefix("run:")), teacher_of)
    weights = Path(recipe.weights)

    @functools.cache
    def sentence_map() -> SentenceMap:
        return SentenceMap.from_weights(weights)

    return load_teacher(
        recipe.name, weights=weights, members=recipe.members, text=lambda phrases: sentence_map()(phrases)
    )


def prepare(recipe: Recipe, teacher: Teacher, data: Path, cache: Path, *, quiet: bool) -> Materials:
    """Pictures, teacher targets, texts and bank, from the cache where it has them."""
    pictures = cache_pictures(scan(recipe.data, data), recipe.input, cache, quiet=quiet)
    bank = load_bank(teacher, recipe.bank)
    texts = embed_texts(teacher, recipe.data, pictures)
    targets = cache_targets(teacher, recipe, pictures, cache, quiet=quiet)
    return Materials(recipe, pictures, targets, texts, bank, teacher.text_space)


def report_pictures(materials: Materials, output: Path, *, quiet: bool) -> None:
    """Say how many pictures there are and list the broken ones in OUTPUT/broken.csv."""
    cache = materials.cache
    write_broken_list(cache.broken, output / "broken.csv")
    if not quiet:
        held = sum(sample.held_out for sample in cache.samples)
        said = f"{len(cache.samples)} pictures, {held} held out, {len(materials.texts.names)} texts"
        broken = f"; {len(cache.broken)} skipped, see {output / 'broken.csv'}" if cache.broken else ""
        tqdm.write(said + broken, file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
