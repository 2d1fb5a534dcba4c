"""Quantise an exported student to int8: `python -m tools.quantize RUN --data DIR`.

Static QDQ: activations QUInt8 by tensor, weights QInt8 by channel, rounded by what they do to their
layer (factory/int8/rounding.py). Several calibrators are tried on training pictures. The one whose
embeddings lie nearest to float32's on held-out training pictures is kept. The runtime's own
preprocessing prepares the pictures. Writes RUN/encoder.onnx and RUN/quantize.json (the parity
report).
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from tools.factory.int8.parity import parity_table
from tools.factory.int8.quantise import CALIBRATORS
from tools.factory.int8.quantise_run import quantise_run
from tools.lib.command import run_verb, verb_parser


def main(argv: list[str] | None = None) -> int:
    """Run the verb; returns the exit code."""
    return run_verb(_parser(), _quantize, argv)


def _quantize(args: argparse.Namespace) -> str:
    report = quantise_run(
        args.run,
        args.data,
        calibration=args.calibration,
        held_out=args.held_out,
        methods=args.calibrator or list(CALIBRATORS),
    )
    return parity_table(report)


def _parser() -> argparse.ArgumentParser:
    parser = verb_parser("tools.quantize", __doc__)
    add = parser.add_argument
    calibrators = list(CALIBRATORS)
    add("run", type=Path, help="a folder of tools.distill with encoder.fp32.onnx in it")
    add("--data", type=Path, default=Path(), help="folder the recipe's picture paths start from")
    add("--calibration", type=int, default=256, help="training pictures the ranges come from (256)")
    add("--held-out", type=int, default=256, help="held-out training pictures that choose (256)")
    add("--calibrator", action="append", choices=calibrators, help="only this one (repeatable)")
    return parser


if __name__ == "__main__":
    sys.exit(main())
