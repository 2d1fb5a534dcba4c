"""Score a bundle, or any ONNX CLIP tower, on labelled pictures: `python -m tools.evaluate BUNDLE`.

The runtime itself reads, preprocesses and encodes the pictures. --data is a folder or .zip with a
classes.json ({set: {"classes": [...], "prompt": "a photo of a {}", "label_to_text": {...}}}, one
folder a class), or a plain folder with one sub-folder a class. Prints a Markdown table. --output
DIR also writes evaluation.json, evaluation.md and the confusion and reliability pictures.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from edge_runtime.errors import UsageError
from edge_runtime.system.files import write_atomically
from tools.factory.evaluation.labelled import labelled_sets, open_data
from tools.factory.evaluation.report import score_table
from tools.factory.evaluation.scores import PAIRS, evaluate
from tools.factory.evaluation.subject import load_subject
from tools.factory.teachers.teacher import CLIP_B32
from tools.lib.command import run_verb, verb_parser

EVALUATION_PACK = Path("../shared/data/eval.zip")


def main(argv: list[str] | None = None) -> int:
    """Run the verb; returns the exit code."""
    return run_verb(_parser(), _evaluate, argv)


def _evaluate(args: argparse.Namespace) -> str:
    braces = args.prompt.count("{") + args.prompt.count("}")
    if "{}" not in args.prompt or braces != 2:
        raise UsageError(
            f"--prompt '{args.prompt}': needs one {{}}, where the name of the class goes"
        )
    subject = load_subject(args.target, args.fp32)
    stored = PAIRS if PAIRS.is_file() and subject.text_space == CLIP_B32 else None

    with open_data(args.data) as root:
        sets = labelled_sets(root, args.prompt, args.set)
        report = evaluate(subject, sets, args.pairs or stored, args.output)

    text = score_table(report)
    if args.output:
        write_atomically(args.output / "evaluation.json", json.dumps(report, indent=1).encode())
        write_atomically(args.output / "evaluation.md", (text + "\n").encode())
    return text


def _parser() -> argparse.ArgumentParser:
    parser = verb_parser("tools.evaluate", __doc__)
    add = parser.add_argument
    pack = EVALUATION_PACK
    add("target", type=Path, help="a bundle, or TOWER.onnx with TOWER.json and TOWER.npy")
    add("--data", type=Path, default=pack, help=f"labelled pictures ({pack})")
    add("--set", action="append", default=[], help="only this set of classes.json (repeatable)")
    add("--prompt", default="a photo of a {}", help="for a plain folder of classes")
    add("--fp32", type=Path, help="the bundle's float32 ONNX, as a second column")
    add("--pairs", type=Path, help=f"teacher embeddings for retention ({PAIRS}, where it fits)")
    add("--output", type=Path, help="folder for evaluation.json, evaluation.md and pictures")
    return parser


if __name__ == "__main__":
    sys.exit(main())
