"""Quality of the sentence map on 400 names that were held out: `python -m
tools.measure.sentence_map`."""

from __future__ import annotations

import argparse
from pathlib import Path

from tools.factory.text.sentence_map import (
    DEFAULT_WEIGHTS,
    SentenceFeatures,
    load_text_rows,
    plain_quality,
    quality,
)


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m tools.measure.sentence_map", description=__doc__
    )
    parser.add_argument(
        "--weights", type=Path, default=DEFAULT_WEIGHTS, help="folder of the CLIP text bank"
    )
    args = parser.parse_args()
    rows = load_text_rows(args.weights)
    features = SentenceFeatures()
    for name, figures in (
        ("plain kernel ridge", plain_quality(rows, features)),
        ("this map", quality(rows, features)),
    ):
        print(
            f"{name}: {figures['names']} held-out names, right name first {figures['first']:.1%}, "
            f"in the first five {figures['first_five']:.1%}, mean cosine {figures['cosine']:.3f}"
        )


if __name__ == "__main__":
    main()
