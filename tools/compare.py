"""What each student costs before any training: `python -m tools.compare`.

Weights are random, because speed and size do not depend on them. Each student is exported and
quantised as a bundle's is, and timed with the runtime's own session options, one picture at a time.
Milliseconds are this machine's. For a Cortex-A72 see `python -m tools.a72.model BUNDLE` (modelled).
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from tqdm import tqdm

from tools.factory.int8.cost import cost, cost_table
from tools.factory.students.networks import STUDENTS
from tools.lib.command import run_verb, verb_parser


def main(argv: list[str] | None = None) -> int:
    """Run the verb; returns the exit code."""
    return run_verb(_parser(), _compare, argv)


def _compare(args: argparse.Namespace) -> str:
    names = tqdm(args.student or list(STUDENTS), desc="students", unit="student")
    rows = [cost(name, args.size, args.threads, args.runs) for name in names]
    text = cost_table(rows, args.threads)
    if args.output:
        args.output.write_text(text + "\n", encoding="utf-8")
    return text


def _parser() -> argparse.ArgumentParser:
    parser = verb_parser("tools.compare", __doc__)
    add = parser.add_argument
    add("--student", action="append", choices=list(STUDENTS), help="only this one (repeatable)")
    add("--size", type=int, default=192, help="side of the input in pixels (192)")
    add("--threads", type=int, default=1, help="for one encode (1)")
    add("--runs", type=int, default=50, help="encodes timed; the shortest counts (50)")
    add("--output", type=Path, help="also write the table here")
    return parser


if __name__ == "__main__":
    sys.exit(main())
