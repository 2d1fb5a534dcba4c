"""Measure the sentence map on 400 held-out names: `python -m tools.measure.sentence_map`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from tools.factory.text.sentence_map import (
    DEFAULT_WEIGHTS,
    SentenceFeatures,
    load_text_rows,
    plain_quality,
    quality,
)
from tools.lib.command import run_verb, verb_parser


def main(argv: list[str] | None = None) -> int:
    """Run the measurement; returns the exit code."""
    parser = verb_parser("tools.measure.sentence_map", __doc__)
    weights = DEFAULT_WEIGHTS
    parser.add_argument("--weights", type=Path, default=weights, help="folder of the text bank")
    return run_verb(parser, _measure, argv)


def _measure(args: argparse.Namespace) -> str:
    rows = load_text_rows(args.weights)
    features = SentenceFeatures()
    results = {
        "plain kernel ridge": plain_quality(rows, features),
        "this map": quality(rows, features),
    }
    return "\n".join(_line(name, figures) for name, figures in results.items())


def _line(name: str, figures: dict[str, float]) -> str:
    return (
        f"{name}: {figures['names']} held-out names, right name first {figures['first']:.1%}, "
        f"in the first five {figures['first_five']:.1%}, mean cosine {figures['cosine']:.3f}"
    )


if __name__ == "__main__":
    sys.exit(main())
