"""Assemble a bundle from a run: `python -m tools.bundle RUN --bank DIR --output models/NAME`.

Takes RUN/encoder.onnx (tools.quantize), the text bank in DIR (tools.prompts) and label sets; writes
manifest.json with the sha256 of every file and MODEL_CARD.md from recipe, log, parity report and
evaluation. The bundle is opened with the runtime's own loader, and every label set compiled, before
it replaces what stood at --output.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from edge_runtime.errors import EdgeLabelError
from tools.factory.bundling.assemble import make_bundle
from tools.lib.paths import RECIPES


def main(argv: list[str] | None = None) -> int:
    """Run the verb; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.bundle", description=__doc__.split("\n\n")[0]
    )
    parser.add_argument("run", type=Path, help="a folder of tools.distill, exported and quantised")
    parser.add_argument(
        "--bank",
        type=Path,
        required=True,
        help="folder with text_bank.npy and .json (tools.prompts)",
    )
    parser.add_argument(
        "--labels", type=Path, nargs="*", default=sorted((RECIPES / "labels").glob("*.yaml"))
    )
    parser.add_argument(
        "--logit-scale", type=float, default=100.0, help="what cosines are multiplied by (100)"
    )
    parser.add_argument(
        "--evaluate",
        type=Path,
        metavar="DATA",
        help="score it on DATA (see tools.evaluate) for the card",
    )
    parser.add_argument(
        "--output", type=Path, required=True, help="the bundle's folder, e.g. models/edge-clip"
    )
    args = parser.parse_args(argv)
    try:
        make_bundle(args.run, args.bank, args.labels, args.output, args.logit_scale, args.evaluate)
    except EdgeLabelError as error:
        print(f"bundle: {error}", file=sys.stderr)
        return error.exit_code
    size = sum(p.stat().st_size for p in args.output.rglob("*") if p.is_file())
    print(f"{args.output}: {size / 1e6:.1f} MB in all, opened and verified")
    return 0


if __name__ == "__main__":
    sys.exit(main())
