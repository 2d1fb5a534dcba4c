"""Distil a student from a teacher: `python -m tools.distill RECIPE --data DIR --output DIR`.

Writes to --output: checkpoint.pt (the whole state; --resume continues from it, to the same bits),
log.jsonl, broken.csv (pictures that could not be read) and recipe.yaml. With several GPUs:
`torchrun --nproc-per-node 4 -m tools.distill RECIPE ...`.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

import torch.distributed as dist

from tools.factory.recipe import load_recipe
from tools.factory.training.distillation import distill
from tools.factory.training.processes import join_processes, keep_freed_memory
from tools.lib.command import run_verb, verb_parser


def main(argv: list[str] | None = None) -> int:
    """Run the verb; returns the exit code."""
    try:
        return run_verb(_parser(), _distill, argv)
    finally:
        if dist.is_initialized():
            dist.destroy_process_group()


def _distill(args: argparse.Namespace) -> None:
    keep_freed_memory()
    recipe = load_recipe(args.recipe)
    finished = distill(
        recipe,
        data=args.data,
        output=args.output,
        cache=args.cache or args.output / "cache",
        device=join_processes(args.device),
        recipe_text=args.recipe.read_bytes(),
        resume=args.resume,
        stop_after_s=args.stop_after * 60,
        steps=args.steps,
        workers=args.workers,
        quiet=args.quiet,
    )
    if not finished:
        advice = f"continue with: --resume --output {args.output}"
        print(f"stopped before the end; {advice}", file=sys.stderr)


def _parser() -> argparse.ArgumentParser:
    parser = verb_parser("tools.distill", __doc__)
    add = parser.add_argument
    forever = float("inf")
    threads = max(1, min(8, (os.cpu_count() or 2) // 2))
    add("recipe", type=Path, help="a recipe, e.g. tools/recipes/edge-clip.yaml")
    add("--data", type=Path, default=Path(), help="folder the recipe's picture paths start from")
    add("--output", type=Path, required=True, help="folder for checkpoint, log and lists")
    add("--cache", type=Path, help="folder for decoded pictures and teacher targets (OUTPUT/cache)")
    add("--resume", action="store_true", help="continue from OUTPUT/checkpoint.pt")
    add("--stop-after", type=float, default=forever, metavar="MINUTES", help="save and stop then")
    add("--steps", type=int, default=1 << 62, help="save and stop at this step")
    add("--workers", type=int, default=threads, help="loader threads")
    add("--device", default="auto", help="auto, cpu or cuda")
    add("--quiet", action="store_true", help="no progress bar")
    return parser


if __name__ == "__main__":
    sys.exit(main())
