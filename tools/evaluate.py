"""Score a bundle, or any ONNX CLIP tower, on labelled pictures: `python -m tools.evaluate
models/edge-clip`.

Pictures are read, preprocessed and encoded by the runtime itself. --data is a folder or .zip with a
classes.json ({set: {"classes": [...], "prompt": "a photo of a {}", "label_to_text": {...}}}, one
folder a class), or a plain folder with one sub-folder a class. Prints a Markdown table; --output
DIR also writes evaluation.json, evaluation.md and the confusion and reliability pictures.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from edge_runtime.errors import EdgeLabelError, UsageError
from edge_runtime.files import write_atomically
from tools.factory.evaluation.labelled import labelled_sets, open_data
from tools.factory.evaluation.report import score_table
from tools.factory.evaluation.scores import PAIRS, evaluate
from tools.factory.evaluation.subject import load_subject
from tools.factory.teachers.teacher import CLIP_B32

EVALUATION_PACK = Path("../shared/data/eval.zip")


def main(argv: list[str] | None = None) -> int:
    """Run the verb; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.evaluate", description=__doc__.split("\n\n")[0]
    )
    parser.add_argument(
        "target", type=Path, help="a bundle directory, or TOWER.onnx with TOWER.json and TOWER.npy"
    )
    parser.add_argument(
        "--data", type=Path, default=EVALUATION_PACK, help=f"labelled pictures ({EVALUATION_PACK})"
    )
    parser.add_argument(
        "--set", action="append", default=[], help="only this set of classes.json (repeatable)"
    )
    parser.add_argument("--prompt", default="a photo of a {}", help="for a plain folder of classes")
    parser.add_argument(
        "--fp32",
        type=Path,
        help="the float32 ONNX the bundle was quantised from, as a second column",
    )
    parser.add_argument(
        "--pairs", type=Path, help=f"teacher embeddings for retention ({PAIRS}, where it fits)"
    )
    parser.add_argument(
        "--output", type=Path, help="folder for evaluation.json, evaluation.md and pictures"
    )
    args = parser.parse_args(argv)
    try:
        if "{}" not in args.prompt or args.prompt.count("{") + args.prompt.count("}") != 2:
            raise UsageError(
                f"--prompt '{args.prompt}': needs one {{}}, where the name of the class goes"
            )
        subject = load_subject(args.target, args.fp32)
        pairs = args.pairs or (
            PAIRS if PAIRS.is_file() and subject.text_space == CLIP_B32 else None
        )
        with open_data(args.data) as root:
            report = evaluate(
                subject, labelled_sets(root, args.prompt, args.set), pairs, args.output
            )
        text = score_table(report)
        if args.output:
            write_atomically(args.output / "evaluation.json", json.dumps(report, indent=1).encode())
            write_atomically(args.output / "evaluation.md", (text + "\n").encode())
    except EdgeLabelError as error:
        print(f"evaluate: {error}", file=sys.stderr)
        return error.exit_code
    print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
