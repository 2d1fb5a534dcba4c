"""Curate pictures without labels: `python -m tools.curate RGB --labels SUPERSET.yaml --output
pairs.csv`.

EdgeVL's first step: the teacher labels every colour picture zero-shot over a broad superset of
labels, and the most confident share of the training pictures is kept, with their infrared or depth
partners (`--partner`, same file stem) and their pseudo-labels. The list is a CSV that a recipe's
source of kind "csv" reads.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from edge_runtime.errors import EdgeLabelError, UsageError
from edge_runtime.files import write_atomically
from tools.factory.edgevl.curation import (
    find_pairs,
    keep_confident,
    load_superset,
    pseudo_label,
    to_csv,
)
from tools.factory.recipe import TeacherRecipe
from tools.factory.training.student_teacher import teacher_of


def main(argv: list[str] | None = None) -> int:
    """Run the verb; returns the exit code."""
    args = _parser().parse_args(argv)
    try:
        if args.partner and not args.modality:
            raise UsageError(
                "--partner: say what these pictures are with --modality ir or --modality depth"
            )
        teacher = teacher_of(TeacherRecipe(args.teacher, args.weights))
        superset = load_superset(args.labels, teacher)
        pairs = pseudo_label(find_pairs(args.rgb, args.partner, args.modality), teacher, superset)
        kept = keep_confident(pairs, args.keep)
        write_atomically(args.output, to_csv(kept, args.output.parent).encode())
    except EdgeLabelError as error:
        print(f"curate: {error}", file=sys.stderr)
        return error.exit_code
    parts = {
        split: sum(p.split == split for p in kept) for split in ("train", "validation", "test")
    }
    print(
        f"{args.output}: {len(kept)} of {len(pairs)}; "
        + ", ".join(f"{n} {split}" for split, n in parts.items())
    )
    labels = [p.label for p in kept]
    print(
        ", ".join(
            f"{name} {labels.count(name)}"
            for name in sorted(set(labels), key=labels.count, reverse=True)
        )
    )
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tools.curate", description=__doc__.split("\n\n")[0]
    )
    parser.add_argument("rgb", type=Path, help="folder of colour pictures")
    parser.add_argument(
        "--partner", type=Path, help="folder of infrared or depth pictures with the same file stems"
    )
    parser.add_argument(
        "--modality", choices=("ir", "depth"), default="", help="what --partner holds"
    )
    parser.add_argument(
        "--labels",
        type=Path,
        required=True,
        help="superset, e.g. tools/recipes/supersets/road.yaml",
    )
    parser.add_argument(
        "--teacher", default="offline", help="as in a recipe: offline, run:FOLDER, a CLIP by name"
    )
    parser.add_argument(
        "--weights", default=TeacherRecipe.weights, help="folder of weights of the offline teacher"
    )
    parser.add_argument(
        "--keep", type=_share, default=0.25, help="share of the training pictures kept (0.25)"
    )
    parser.add_argument("--output", type=Path, required=True, help="CSV to write")
    return parser


def _share(text: str) -> float:
    value = float(text)
    if not 0 < value <= 1:
        raise argparse.ArgumentTypeError(f"{text} is not above 0 and up to 1")
    return value


if __name__ == "__main__":
    sys.exit(main())
