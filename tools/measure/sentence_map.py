"""Measure the sentence map by kind of word: `python -m tools.measure.sentence_map`.

A quarter of the names of each kind, at most 400, are held out together in every spelling, and one
map is fitted without them. For each kind it prints how often the right name is first, and among the
first five, of the held-out names of that kind, and the mean cosine to the genuine row. Beside it is
the plainest map on the same sentence features.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from tools.factory.text.encoder import figures_table, map_figures
from tools.factory.text.rows import DEFAULT_WEIGHTS, load_text_rows
from tools.factory.text.sentence_map import SentenceFeatures
from tools.lib.command import run_verb, verb_parser


def main(argv: list[str] | None = None) -> int:
    """Run the measurement; returns the exit code."""
    parser = verb_parser("tools.measure.sentence_map", __doc__)
    weights = DEFAULT_WEIGHTS
    parser.add_argument("--weights", type=Path, default=weights, help="folder of the text bank")
    return run_verb(parser, _measure, argv)


def _measure(args: argparse.Namespace) -> str:
    rows = load_text_rows(args.weights)
    return figures_table(map_figures(rows, SentenceFeatures()))


if __name__ == "__main__":
    sys.exit(main())
