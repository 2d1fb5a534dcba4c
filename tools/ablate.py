"""What each part of a recipe is worth: `python -m tools.ablate RECIPE --data DIR --output DIR`.

Distils the recipe as it is, then without each of its terms in turn (weight 0), and, where the
teacher has several members, with the first of them alone. Every run has the same start, the same
pictures in the same order and the same number of epochs. Prints the held-out scores side by side.
Pictures and teacher targets are computed once and shared. A run that exists is not repeated.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import torch

from edge_runtime.system.files import write_atomically
from tools.factory.recipe import load_recipe
from tools.factory.training.ablation import last_validation, shortened, variants, variants_table
from tools.factory.training.distillation import distill
from tools.lib.command import run_verb, verb_parser


def main(argv: list[str] | None = None) -> int:
    """Run the verb; returns the exit code."""
    return run_verb(_parser(), _ablate, argv)


def _ablate(args: argparse.Namespace) -> str:
    recipe = shortened(load_recipe(args.recipe), args.epochs)
    scores = {}
    for name, variant in variants(recipe).items():
        run = args.output / name.replace(" ", "-")
        distill(
            variant,
            data=args.data,
            output=run,
            cache=args.cache or args.output / "cache",
            device=torch.device(args.device),
            resume=(run / "checkpoint.pt").exists(),
            quiet=args.quiet,
        )
        scores[name] = last_validation(run)

    text = variants_table(scores)
    write_atomically(args.output / "ablation.json", json.dumps(scores, indent=1).encode())
    write_atomically(args.output / "ablation.md", (text + "\n").encode())
    return text


def _parser() -> argparse.ArgumentParser:
    parser = verb_parser("tools.ablate", __doc__)
    add = parser.add_argument
    device = "cuda" if torch.cuda.is_available() else "cpu"
    add("recipe", type=Path, help="a recipe, e.g. tools/recipes/edge-clip.yaml")
    add("--data", type=Path, default=Path(), help="folder the recipe's picture paths start from")
    add("--output", type=Path, required=True, help="folder for runs, ablation.json, ablation.md")
    add("--cache", type=Path, help="pictures and targets of an earlier run (OUTPUT/cache)")
    add("--epochs", type=float, default=1.0, help="how long each variant is trained (1)")
    add("--device", default=device, help="cpu or cuda")
    add("--quiet", action="store_true", help="no progress bars")
    return parser


if __name__ == "__main__":
    sys.exit(main())
