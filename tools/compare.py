"""What each student costs before any training: `python -m tools.compare`.

Weights are random (speed and size do not depend on them); each student is exported and quantised as
a bundle's is, and timed with the runtime's own session options, one picture at a time. Milliseconds
are this machine's: for a Cortex-A72 see `python -m tools.a72.model BUNDLE` (modelled).
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from tqdm import tqdm

from edge_runtime.errors import EdgeLabelError
from tools.factory.int8.cost import cost, cost_table
from tools.factory.students.networks import STUDENTS


def main(argv: list[str] | None = None) -> int:
    """Run the verb; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.compare", description=__doc__.split("\n\n")[0]
    )
    parser.add_argument(
        "--student", action="append", choices=list(STUDENTS), help="only this one (repeatable)"
    )
    parser.add_argument("--size", type=int, default=192, help="side of the input in pixels (192)")
    parser.add_argument("--threads", type=int, default=1, help="for one encode (1)")
    parser.add_argument(
        "--runs", type=int, default=50, help="encodes timed, of which the shortest counts (50)"
    )
    parser.add_argument("--output", type=Path, help="also write the table here")
    args = parser.parse_args(argv)
    try:
        names = tqdm(args.student or list(STUDENTS), desc="students", unit="student")
        text = cost_table(
            [cost(name, args.size, args.threads, args.runs) for name in names], args.threads
        )
    except EdgeLabelError as error:
        print(f"compare: {error}", file=sys.stderr)
        return error.exit_code
    print(text)
    if args.output:
        args.output.write_text(text + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
