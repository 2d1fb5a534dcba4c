"""Export a distilled student to ONNX: `python -m tools.export RUN`.

The graph takes uint8 RGB pixels [1, H, W, 3] and gives a unit embedding [1, dim]. Offset and scale
of the pixels
are folded in: pixels - 114 is all that is left before the first convolution (its weights carry the
scale), and in the int8 graph even that becomes the zero point of the input. BatchNorm is folded
into the convolutions.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from edge_runtime.errors import EdgeLabelError
from edge_runtime.files import write_atomically
from tools.factory.int8.export import export_onnx
from tools.factory.training.run_folder import load_run


def main(argv: list[str] | None = None) -> int:
    """Run the verb; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.export", description=__doc__.split("\n\n")[0]
    )
    parser.add_argument("run", type=Path, help="a folder tools.distill wrote")
    parser.add_argument("--output", type=Path, help="file to write (RUN/encoder.fp32.onnx)")
    args = parser.parse_args(argv)
    try:
        recipe, student, text_space = load_run(args.run)
        data = export_onnx(student, recipe.input.size, text_space)
        output = args.output or args.run / "encoder.fp32.onnx"
        write_atomically(output, data)
    except EdgeLabelError as error:
        print(f"export: {error}", file=sys.stderr)
        return error.exit_code
    parameters = sum(p.numel() for p in student.parameters()) / 1e6
    print(
        f"{output}: {len(data) / 1e6:.1f} MB, {parameters:.2f} M parameters, {recipe.input.size} px, float32"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
