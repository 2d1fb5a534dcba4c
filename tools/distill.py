"""Distil a student from a teacher, as a recipe says: `python -m tools.distill RECIPE --data DIR
--output DIR`.

Writes to --output: checkpoint.pt (the whole state; --resume goes on from it, to the same bits),
log.jsonl, broken.csv (pictures that could not be read) and recipe.yaml. With several GPUs:
`torchrun --nproc-per-node 4 -m tools.distill RECIPE ...`.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

import torch.distributed as dist

from edge_runtime.errors import EdgeLabelError
from tools.factory.recipe import load_recipe
from tools.factory.training.distillation import distill
from tools.factory.training.processes import join_processes, keep_freed_memory


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
        print(
            f"stopped before the end; go on with: --resume --output {args.output}", file=sys.stderr
        )
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tools.distill", description=__doc__.split("\n\n")[0]
    )
    parser.add_argument("recipe", type=Path, help="a recipe, e.g. tools/recipes/edge-clip.yaml")
    parser.add_argument(
        "--data",
        type=Path,
        default=Path(),
        help="folder the recipe's picture paths are relative to",
    )
    parser.add_argument(
        "--output", type=Path, required=True, help="folder for checkpoint, log and lists"
    )
    parser.add_argument(
        "--cache", type=Path, help="folder for decoded pictures and teacher targets (OUTPUT/cache)"
    )
    parser.add_argument("--resume", action="store_true", help="go on from OUTPUT/checkpoint.pt")
    parser.add_argument(
        "--stop-after",
        type=float,
        default=float("inf"),
        metavar="MINUTES",
        help="stop and save then",
    )
    parser.add_argument("--steps", type=int, default=1 << 62, help="stop and save at this step")
    parser.add_argument(
        "--workers",
        type=int,
        default=max(1, min(8, (os.cpu_count() or 2) // 2)),
        help="loader threads",
    )
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda")
    parser.add_argument("--quiet", action="store_true", help="no progress bar")
    return parser


if __name__ == "__main__":
    sys.exit(main())
