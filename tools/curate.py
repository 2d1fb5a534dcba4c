"""Curate pictures without labels: `python -m tools.curate RGB --labels SUPERSET --output LIST.csv`.

This is EdgeVL's first step. The teacher labels every colour picture zero-shot over a broad superset
of labels. The most confident share of the training pictures is kept, with their pseudo-labels and
their infrared or depth partners (`--partner`, same file stem). The list is a CSV that a recipe's
source of kind "csv" reads.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from edge_runtime.errors import UsageError
from edge_runtime.system.files import write_atomically
from tools.factory.edgevl import curation
from tools.factory.edgevl.curation import Pair
from tools.factory.recipe import TeacherRecipe
from tools.factory.training.student_teacher import teacher_of
from tools.lib.command import run_verb, verb_parser


def main(argv: list[str] | None = None) -> int:
    """Run the verb; returns the exit code."""
    return run_verb(_parser(), _curate, argv)


def _curate(args: argparse.Namespace) -> str:
    if args.partner and not args.modality:
        raise UsageError(
            "--partner: say what these pictures are with --modality ir or --modality depth"
        )
    teacher = teacher_of(TeacherRecipe(args.teacher, args.weights))
    superset = curation.load_superset(args.labels, teacher)

    pairs = curation.find_pairs(args.rgb, args.partner, args.modality)
    labelled = curation.pseudo_label(pairs, teacher, superset)
    kept = curation.keep_confident(labelled, args.keep)
    write_atomically(args.output, curation.to_csv(kept, args.output.parent).encode())
    return _summary(args.output, labelled, kept)


def _summary(output: Path, labelled: list[Pair], kept: list[Pair]) -> str:
    """How many pairs are kept, by split and by label; the most frequent label first."""
    counts = [
        f"{sum(pair.split == split for pair in kept)} {split}"
        for split in ("train", "validation", "test")
    ]
    labels = [pair.label for pair in kept]
    names = sorted(set(labels), key=labels.count, reverse=True)
    by_label = [f"{name} {labels.count(name)}" for name in names]
    return f"{output}: {len(kept)} of {len(labelled)}; {', '.join(counts)}\n{', '.join(by_label)}"


def _parser() -> argparse.ArgumentParser:
    parser = verb_parser("tools.curate", __doc__)
    add = parser.add_argument
    weights = TeacherRecipe.weights
    add("rgb", type=Path, help="folder of colour pictures")
    add("--partner", type=Path, help="folder of infrared or depth pictures with the same stems")
    add("--modality", choices=("ir", "depth"), default="", help="what --partner holds")
    add("--labels", type=Path, required=True, help="e.g. tools/recipes/supersets/road.yaml")
    add("--teacher", default="offline", help="as in a recipe: offline, run:FOLDER, a CLIP by name")
    add("--weights", default=weights, help="folder of weights of the offline teacher")
    add("--keep", type=_share, default=0.25, help="share of the training pictures kept (0.25)")
    add("--output", type=Path, required=True, help="CSV to write")
    return parser


def _share(text: str) -> float:
    value = float(text)
    if not 0 < value <= 1:
        raise argparse.ArgumentTypeError(f"{text} is not above 0 and up to 1")
    return value


if __name__ == "__main__":
    sys.exit(main())
