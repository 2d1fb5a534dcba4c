"""Export a distilled student to ONNX: `python -m tools.export RUN`.

The graph takes uint8 RGB pixels [1, H, W, 3] and gives a unit embedding [1, dim]. What is folded
into its weights stands in factory/int8/export.py.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from edge_runtime.system.files import write_atomically
from tools.factory.int8.export import export_onnx
from tools.factory.training.run_folder import load_run
from tools.lib.command import run_verb, verb_parser


def main(argv: list[str] | None = None) -> int:
    """Run the verb; returns the exit code."""
    parser = verb_parser("tools.export", __doc__)
    parser.add_argument("run", type=Path, help="a folder tools.distill wrote")
    parser.add_argument("--output", type=Path, help="file to write (RUN/encoder.fp32.onnx)")
    return run_verb(parser, _export, argv)


def _export(args: argparse.Namespace) -> str:
    recipe, student, text_space = load_run(args.run)
    model = export_onnx(student, recipe.input.size, text_space)
    output = args.output or args.run / "encoder.fp32.onnx"
    write_atomically(output, model)

    parameters = sum(p.numel() for p in student.parameters()) / 1e6
    return (
        f"{output}: {len(model) / 1e6:.1f} MB, {parameters:.2f} M parameters, "
        f"{recipe.input.size} px, float32"
    )


if __name__ == "__main__":
    sys.exit(main())
