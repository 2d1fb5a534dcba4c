"""Teach a colour student infrared and depth: `python -m tools.edgevl RECIPE --start RUN ...`.

This is EdgeVL (Cai et al., ECCV 2024), in three steps.

- Curation: the start run's student labels the colour half of every pair over a superset of labels.
  Training pairs it is unsure of are dropped.
- Stage 1: one student learns to say of the infrared or depth picture what it said of the colour
  picture, and continues to say it of colour.
- Stage 2: the same student, fake-quantised to int8 with ranges calibrated on all modalities, is
  refined with a triplet loss over the pseudo-labels.

The best state on the validation pairs is kept. The test pairs and --eval choose nothing. Pairs are
few, so each colour picture without a partner gets one: pseudo-infrared, made of the picture itself.

Writes to --output: encoder.fp32.onnx (stage 1), encoder.onnx (stage 2, int8), edgevl.json and
edgevl.md (the ablation table; --ablation adds the rows that need trainings of their own) and the
curated lists. With --base and --bundle it also writes a bundle: the text side of a bundle that
exists, the new encoder, and the modalities it was trained for.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from edge_runtime.errors import NoInputError, UsageError
from edge_runtime.model.bundle import load_bundle
from edge_runtime.system.strict_yaml import parse, read_text
from tools.factory.edgevl.bundle import ship
from tools.factory.edgevl.recipe import EdgeVLRecipe
from tools.factory.edgevl.run import run
from tools.factory.training.processes import keep_freed_memory
from tools.lib.command import run_verb, verb_parser


def main(argv: list[str] | None = None) -> int:
    """Run the verb; returns the exit code."""
    return run_verb(_parser(), _edgevl, argv)


def _edgevl(args: argparse.Namespace) -> None:
    keep_freed_memory()
    recipe = parse(read_text(args.recipe, "EdgeVL recipe"), str(args.recipe), EdgeVLRecipe)
    _check(args)

    text = run(
        recipe,
        args.start,
        args.data,
        args.output,
        args.eval,
        ablation=args.ablation,
        quiet=args.quiet,
    )
    print(text)
    if args.bundle:
        ship(args.base, args.bundle, args.output, recipe)


def _check(args: argparse.Namespace) -> None:
    """Refuse what cannot end well now, and not after half an hour of training."""
    if not (args.start / "checkpoint.pt").is_file():
        raise NoInputError(
            f"{args.start}: no checkpoint.pt in it",
            "--start takes a folder that tools.distill wrote",
        )
    if bool(args.base) != bool(args.bundle):
        raise UsageError(
            "--base and --bundle go together: whose text side, and where the new bundle goes"
        )
    if args.base:
        load_bundle(args.base).verify()


def _parser() -> argparse.ArgumentParser:
    parser = verb_parser("tools.edgevl", __doc__)
    add = parser.add_argument
    add("recipe", type=Path, help="e.g. tools/recipes/edgevl.yaml")
    add("--start", type=Path, required=True, metavar="RUN", help="run folder of the colour student")
    add("--data", type=Path, required=True, help="folder the recipe's picture paths start from")
    add("--output", type=Path, required=True, help="folder for models, lists and tables")
    add("--eval", type=Path, help="evaluation pack (folder or .zip) that holds the recipe's pairs")
    add("--base", type=Path, metavar="BUNDLE", help="bundle of the start run")
    add("--bundle", type=Path, help="bundle to write, e.g. models/edge-clip-multi")
    add("--ablation", action="store_true", help="also train the other rows of the table")
    add("--quiet", action="store_true", help="no progress bars")
    return parser


if __name__ == "__main__":
    sys.exit(main())
