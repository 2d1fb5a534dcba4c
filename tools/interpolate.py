"""Go back part of the way from the trained weights to the start: `python -m tools.interpolate RUN`.

Fine-tuning gains what it was trained on and forgets some of what the start knew. Weights in between
often have most of both (WiSE-FT, Wortsman et al., CVPR 2022). Prints held-out scores at several
shares of the way. With --share and --output it writes the run at one of them, for tools.export and
the verbs after it.

The start must be known exactly: the run needs head kind "classifier" and no inserted BatchNorm.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from edge_runtime.errors import UsageError
from tools.factory.training.interpolation import SHARES, compare_shares, write_share
from tools.lib.command import run_verb, verb_parser


def main(argv: list[str] | None = None) -> int:
    """Run the verb; returns the exit code."""
    return run_verb(_parser(), _interpolate, argv)


def _interpolate(args: argparse.Namespace) -> str | None:
    if (args.share is None) != (args.output is None):
        raise UsageError("--share and --output belong together")
    if args.share is not None:
        write_share(args.run, args.share, args.output)
        return f"{args.output}: {args.share:.0%} of the way from the start to {args.run}"

    compare_shares(args.run, args.data, args.cache or args.run / "cache", args.shares)
    return None


def _parser() -> argparse.ArgumentParser:
    parser = verb_parser("tools.interpolate", __doc__, whole=True)
    add = parser.add_argument
    shares = list(SHARES)
    add("run", type=Path, help="a folder tools.distill wrote")
    add("--data", type=Path, default=Path(), help="folder the recipe's picture paths start from")
    add("--cache", type=Path, help="the cache of the run (RUN/cache)")
    add("--shares", type=float, nargs="*", default=shares, help="shares of the way to score")
    add("--share", type=float, help="the share to write to --output")
    add("--output", type=Path, help="folder for the run at --share")
    return parser


if __name__ == "__main__":
    sys.exit(main())
