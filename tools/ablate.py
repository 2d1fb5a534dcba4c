"""What each part of a recipe is worth: `python -m tools.ablate RECIPE --data DIR --output DIR
--epochs 1`.

Distils the recipe once as it is, once without each of its terms (weight 0), and where the teacher
has several members once with the first alone; every time from the same start, on the same pictures
in the same order, for the same number of epochs; then prints the held-out scores side by side.
Pictures and teacher targets are computed once and shared. A run that is already there is not made
again.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import torch

from edge_runtime.errors import EdgeLabelError
from edge_runtime.files import write_atomically
from tools.factory.recipe import load_recipe
from tools.factory.training.ablation import last_validation, shortened, variants, variants_table
from tools.factory.training.distillation import distill


def main(argv: list[str] | None = None) -> int:
    """Run the verb; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.ablate", description=__doc__.split("\n\n")[0]
    )
    parser.add_argument("recipe", type=Path, help="a recipe, e.g. tools/recipes/edge-clip.yaml")
    parser.add_argument(
        "--data",
        type=Path,
        default=Path(),
        help="folder the recipe's picture paths are relative to",
    )
    parser.add_argument(
        "--output",
        type=Path,
        required=True,
        help="folder for the runs, ablation.json and ablation.md",
    )
    parser.add_argument(
        "--cache",
        type=Path,
        help="folder with pictures and targets of an earlier run (OUTPUT/cache)",
    )
    parser.add_argument(
        "--epochs", type=float, default=1.0, help="how long each variant is trained (1)"
    )
    parser.add_argument(
        "--device", default="cuda" if torch.cuda.is_available() else "cpu", help="cpu or cuda"
    )
    parser.add_argument("--quiet", action="store_true", help="no progress bars")
    args = parser.parse_args(argv)
    try:
        recipe = shortened(load_recipe(args.recipe), args.epochs)
        scores = {}
        for name, variant in variants(recipe).items():
            run = args.output / name.replace(" ", "-")
            started = (run / "checkpoint.pt").exists()
            distill(
                variant,
                data=args.data,
                output=run,
                cache=args.cache or args.output / "cache",
                device=torch.device(args.device),
                resume=started,
                quiet=args.quiet,
            )
            scores[name] = last_validation(run)
        write_atomically(args.output / "ablation.json", json.dumps(scores, indent=1).encode())
        write_atomically(args.output / "ablation.md", (variants_table(scores) + "\n").encode())
    except EdgeLabelError as error:
        print(f"ablate: {error}", file=sys.stderr)
        return error.exit_code
    print(variants_table(scores))
    return 0


if __name__ == "__main__":
    sys.exit(main())
