"""Quantise an exported student to int8: `python -m tools.quantize RUN --data DIR`.

Static QDQ: activations QUInt8 by tensor, weights QInt8 by channel, rounded by what they do to their
layer (factory/int8/rounding.py). Several calibrators are tried on training pictures; the one whose
embeddings lie nearest to float32's on held-out training pictures is kept. Pictures go through the
runtime's own preprocessing. Writes RUN/encoder.onnx and RUN/quantize.json (the parity report).
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from edge_runtime.errors import EdgeLabelError
from tools.factory.int8.parity import parity_table
from tools.factory.int8.quantise import CALIBRATORS
from tools.factory.int8.quantise_run import quantise_run


def main(argv: list[str] | None = None) -> int:
    """Run the verb; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.quantize", description=__doc__.split("\n\n")[0]
    )
    parser.add_argument(
        "run", type=Path, help="a folder of tools.distill with encoder.fp32.onnx in it"
    )
    parser.add_argument(
        "--data",
        type=Path,
        default=Path(),
        help="folder the recipe's picture paths are relative to",
    )
    parser.add_argument(
        "--calibration", type=int, default=256, help="training pictures the ranges come from"
    )
    parser.add_argument(
        "--held-out", type=int, default=256, help="held-out training pictures that choose"
    )
    parser.add_argument(
        "--calibrator",
        action="append",
        choices=list(CALIBRATORS),
        help="only this one (repeatable)",
    )
    args = parser.parse_args(argv)
    methods = args.calibrator or list(CALIBRATORS)
    try:
        report = quantise_run(
            args.run,
            args.data,
            calibration=args.calibration,
            held_out=args.held_out,
            methods=methods,
        )
    except EdgeLabelError as error:
        print(f"quantize: {error}", file=sys.stderr)
        return error.exit_code
    print(parity_table(report))
    return 0


if __name__ == "__main__":
    sys.exit(main())
