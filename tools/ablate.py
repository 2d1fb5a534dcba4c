"""What each part of a recipe is worth: `python -m tools.ablate RECIPE --data DIR --output DIR`.

Distils the recipe as it is, then without each of its terms in turn (weight 0), and, where the
teacher has several members, with the first of them alone. With --ingredients FILE it is the other
way round: the recipe as it is, then with each ingredient of the file alone, then with all of them,
each with several --seeds; and the mean of the weights of the last. Every run has the same start,
the same pictures and the same number of epochs. Prints the held-out scores side by side. Pictures
and teacher targets are computed once and shared. A run that exists is not repeated.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import torch

from edge_runtime.system.files import write_atomically
from tools.factory.recipe import Recipe, load_recipe
from tools.factory.training.ablation import last_validation, shortened, variants, variants_table
from tools.factory.training.distillation import distill
from tools.factory.training.ingredient_runs import compare_ingredients
from tools.factory.training.ingredients import read_ingredients
from tools.lib.command import run_verb, verb_parser


def main(argv: list[str] | None = None) -> int:
    """Run the verb; returns the exit code."""
    return run_verb(_parser(), _ablate, argv)


def _ablate(args: argparse.Namespace) -> str:
    cache = args.cache or args.output / "cache"
    if args.ingredients:
        text = compare_ingredients(
            args.recipe,
            read_ingredients(args.ingredients),
            seeds=args.seeds,
            data=args.data,
            output=args.output,
            cache=cache,
            quiet=args.quiet,
        )
    else:
        text = _without_each(args, shortened(load_recipe(args.recipe), args.epochs), cache)
    write_atomically(args.output / "ablation.md", (text + "\n").encode())
    return text


def _without_each(args: argparse.Namespace, recipe: Recipe, cache: Path) -> str:
    scores = {}
    for name, variant in variants(recipe).items():
        run = args.output / name.replace(" ", "-")
        distill(
            variant,
            data=args.data,
            output=run,
            cache=cache,
            device=torch.device(args.device),
            resume=(run / "checkpoint.pt").exists(),
            quiet=args.quiet,
        )
        scores[name] = last_validation(run)
    write_atomically(args.output / "ablation.json", json.dumps(scores, indent=1).encode())
    return variants_table(scores)


def _parser() -> argparse.ArgumentParser:
    parser = verb_parser("tools.ablate", __doc__)
    add = parser.add_argument
    device = "cuda" if torch.cuda.is_available() else "cpu"
    add("recipe", type=Path, help="a recipe, e.g. tools/recipes/edge-clip.yaml")
    add("--ingredients", type=Path, help="a YAML file of changes to the recipe, by name")
    add("--seeds", type=int, default=3, help="runs of each variant with --ingredients (3)")
    add("--data", type=Path, default=Path(), help="folder the recipe's picture paths start from")
    add("--output", type=Path, required=True, help="folder for runs, ablation.json, ablation.md")
    add("--cache", type=Path, help="pictures and targets of an earlier run (OUTPUT/cache)")
    add("--epochs", type=float, default=1.0, help="how long to train without --ingredients (1)")
    add("--device", default=device, help="cpu or cuda, without --ingredients")
    add("--quiet", action="store_true", help="no progress bars")
    return parser


if __name__ == "__main__":
    sys.exit(main())
