"""Make a student's file smaller: `python -m tools.shrink RUN --rank 256 --data DIR --output SMALL`.

The head that holds a classifier has a linear layer beside it whose rank is far below its width. The
layer becomes the product of two thin ones: those that change the embeddings of training pictures
least (see factory/students/heads.py). Prints the cosine between embeddings before and after, on
held-out pictures. It comes after tools.interpolate and before tools.export.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from tools.factory.training.shrinking import shrink
from tools.lib.command import run_verb, verb_parser


def main(argv: list[str] | None = None) -> int:
    """Run the verb; returns the exit code."""
    return run_verb(_parser(), _shrink, argv)


def _shrink(args: argparse.Namespace) -> str:
    cache = args.cache or args.run / "cache"
    cosines = shrink(args.run, args.rank, args.data, cache, args.output, args.pictures)
    return (
        f"{args.output}: rank {args.rank}; cosine to before on {len(cosines)} held-out pictures: "
        f"mean {cosines.mean():.4f}, lowest {cosines.min():.4f}"
    )


def _parser() -> argparse.ArgumentParser:
    parser = verb_parser("tools.shrink", __doc__, whole=True)
    add = parser.add_argument
    add("run", type=Path, help="a folder tools.distill or tools.interpolate wrote")
    add("--rank", type=int, required=True, help="of the linear layer of the head")
    add("--data", type=Path, default=Path(), help="folder the recipe's picture paths start from")
    add("--cache", type=Path, help="the cache of the run (RUN/cache)")
    add("--pictures", type=int, default=1000, help="training pictures used, and held-out ones")
    add("--output", type=Path, required=True, help="folder for the smaller run")
    return parser


if __name__ == "__main__":
    sys.exit(main())
