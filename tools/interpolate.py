"""Walk part of the way from the start to the trained weights: `python -m tools.interpolate RUN
--data DIR --cache DIR`.

Fine-tuning buys what it was trained on and forgets some of what the start knew; weights in between
often have most of both (WiSE-FT, Wortsman et al., CVPR 2022). Prints held-out scores at several
shares of the way; with --share and --output, writes the run at one of them, for tools.export and
the verbs after it.

Needs a run whose start is known exactly: head kind "classifier" and no inserted BatchNorm.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from edge_runtime.errors import EdgeLabelError, UsageError
from tools.factory.training.interpolation import SHARES, compare_shares, write_share


def main(argv: list[str] | None = None) -> int:
    """Run the verb; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.interpolate",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("run", type=Path, help="a folder tools.distill wrote")
    parser.add_argument(
        "--data",
        type=Path,
        default=Path(),
        help="folder the recipe's picture paths are relative to",
    )
    parser.add_argument("--cache", type=Path, help="the cache of the run (RUN/cache)")
    parser.add_argument(
        "--shares", type=float, nargs="*", default=list(SHARES), help="shares of the way to score"
    )
    parser.add_argument("--share", type=float, help="the one to write to --output")
    parser.add_argument("--output", type=Path, help="folder for the run at --share")
    args = parser.parse_args(argv)
    try:
        if (args.share is None) != (args.output is None):
            raise UsageError("--share and --output belong together")
        if args.share is not None:
            write_share(args.run, args.share, args.output)
            print(f"{args.output}: {args.share:.0%} of the way from the start to {args.run}")
        else:
            compare_shares(args.run, args.data, args.cache or args.run / "cache", args.shares)
    except EdgeLabelError as error:
        print(f"interpolate: {error}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
