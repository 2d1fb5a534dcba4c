"""Teach a colour student infrared and depth: `python -m tools.edgevl RECIPE --start RUN --data DIR
--output DIR`.

EdgeVL (Cai et al., ECCV 2024). Curation: the start run's student labels the colour half of every
pair over a superset of labels; unsure training pairs go. Stage 1: one student learns to say of the
infrared or depth picture what it said of the colour picture, and goes on saying it of colour. Stage
2: the same student, fake-quantised to int8 with ranges calibrated on all modalities, is refined
with a triplet loss over the pseudo-labels. The best state on the validation pairs is kept; the test
pairs and --eval choose nothing.

Pairs are few, so colour pictures without a partner get one: pseudo-infrared, made of the picture
itself.

Writes to --output: encoder.fp32.onnx (stage 1) and encoder.onnx (stage 2, int8), edgevl.json and
edgevl.md (the ablation table; --ablation adds the rows that need trainings of their own) and the
curated lists. With --base and --bundle also a bundle: the text side of one that exists, the new
encoder, and the modalities it was trained for.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from edge_runtime.errors import EdgeLabelError, NoInputError, UsageError
from edge_runtime.model.bundle import load_bundle
from edge_runtime.strict_yaml import parse, read_text
from tools.factory.edgevl.bundle import ship
from tools.factory.edgevl.recipe import EdgeVLRecipe
from tools.factory.edgevl.run import run
from tools.factory.training.processes import keep_freed_memory


def main(argv: list[str] | None = None) -> int:
    """Run the verb; returns the exit code."""
    args = _parser().parse_args(argv)
    try:
        keep_freed_memory()
        recipe = parse(read_text(args.recipe, "EdgeVL recipe"), str(args.recipe), EdgeVLRecipe)
        if not (args.start / "checkpoint.pt").is_file():
            raise NoInputError(
                f"{args.start}: no checkpoint.pt in it; --start takes a folder that tools.distill wrote"
            )
        if bool(args.base) != bool(args.bundle):
            raise UsageError(
                "--base and --bundle go together: whose text side, and where the new bundle goes"
            )
        if args.base:
            load_bundle(args.base).verify()  # now, not after half an hour of training
        print(
            run(
                recipe,
                args.start,
                args.data,
                args.output,
                args.eval,
                ablation=args.ablation,
                quiet=args.quiet,
            )
        )
        if args.bundle:
            ship(args.base, args.bundle, args.output, recipe)
    except EdgeLabelError as error:
        print(f"edgevl: {error}", file=sys.stderr)
        return error.exit_code
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tools.edgevl", description=__doc__.split("\n\n")[0]
    )
    parser.add_argument("recipe", type=Path, help="e.g. tools/recipes/edgevl.yaml")
    parser.add_argument(
        "--start", type=Path, required=True, metavar="RUN", help="run folder of the colour student"
    )
    parser.add_argument(
        "--data", type=Path, required=True, help="folder the recipe's picture paths are relative to"
    )
    parser.add_argument(
        "--output", type=Path, required=True, help="folder for models, lists and tables"
    )
    parser.add_argument(
        "--eval", type=Path, help="evaluation pack (folder or .zip) that holds the recipe's pairs"
    )
    parser.add_argument("--base", type=Path, metavar="BUNDLE", help="bundle of the start run")
    parser.add_argument("--bundle", type=Path, help="bundle to write, e.g. models/edge-clip-multi")
    parser.add_argument(
        "--ablation", action="store_true", help="also train the other rows of the table"
    )
    parser.add_argument("--quiet", action="store_true", help="no progress bars")
    return parser


if __name__ == "__main__":
    sys.exit(main())
