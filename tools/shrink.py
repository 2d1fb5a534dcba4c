"""Make a student's file smaller: `python -m tools.shrink RUN --rank 256 --data DIR --output SMALL`.

The head that holds a classifier has a linear layer beside it, and that layer a rank far below its
width. It becomes the product of two thin ones, those that change the embeddings of training
pictures least (see heads.py). Prints the cosine between embeddings before and after on held-out
pictures. Come after tools.interpolate, before tools.export.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from edge_runtime.errors import EdgeLabelError
from tools.factory.training.shrinking import shrink


def main(argv: list[str] | None = None) -> int:
    """Run the verb; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.shrink",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("run", type=Path, help="a folder tools.distill or tools.interpolate wrote")
    parser.add_argument("--rank", type=int, required=True, help="of the linear layer of the head")
    parser.add_argument(
        "--data",
        type=Path,
        default=Path(),
        help="folder the recipe's picture paths are relative to",
    )
    parser.add_argument("--cache", type=Path, help="the cache of the run (RUN/cache)")
    parser.add_argument(
        "--pictures", type=int, default=1000, help="training pictures to look at, and held-out ones"
    )
    parser.add_argument("--output", type=Path, required=True, help="folder for the smaller run")
    args = parser.parse_args(argv)
    try:
        cosines = shrink(
            args.run,
            args.rank,
            args.data,
            args.cache or args.run / "cache",
            args.output,
            args.pictures,
        )
    except EdgeLabelError as error:
        print(f"shrink: {error}", file=sys.stderr)
        return error.exit_code
    print(f"{args.output}: rank {args.rank}; cosine to before on {len(cosines)} held-out pictures: "
          f"mean {cosines.mean():.4f}, lowest {cosines.min():.4f}")  # fmt: skip
    return 0


if __name__ == "__main__":
    sys.exit(main())
