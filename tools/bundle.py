"""Assemble a bundle from a run: `python -m tools.bundle RUN --bank DIR --output models/NAME`.

It takes RUN/encoder.onnx (from tools.quantize), the text bank in DIR (from tools.prompts) and label
sets. It writes manifest.json with the sha256 of every file, and MODEL_CARD.md from the recipe, the
log, the parity report and the evaluation. The runtime's own loader opens the bundle and compiles
every label set before the bundle replaces what stood at --output.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from tools.factory.bundling.assemble import make_bundle
from tools.lib.command import run_verb, verb_parser
from tools.lib.paths import RECIPES


def main(argv: list[str] | None = None) -> int:
    """Run the verb; returns the exit code."""
    return run_verb(_parser(), _bundle, argv)


def _bundle(args: argparse.Namespace) -> str:
    make_bundle(args.run, args.bank, args.labels, args.output, args.logit_scale, args.evaluate)
    size = sum(path.stat().st_size for path in args.output.rglob("*") if path.is_file())
    return f"{args.output}: {size / 1e6:.1f} MB in all, opened and verified"


def _parser() -> argparse.ArgumentParser:
    parser = verb_parser("tools.bundle", __doc__)
    add = parser.add_argument
    shipped = sorted((RECIPES / "labels").glob("*.yaml"))
    add("run", type=Path, help="a folder of tools.distill, exported and quantised")
    add("--bank", type=Path, required=True, help="folder with text_bank.npy and text_bank.json")
    add("--labels", type=Path, nargs="*", default=shipped, help="label sets (those that ship)")
    add("--logit-scale", type=float, default=100.0, help="what cosines are multiplied by (100)")
    add("--evaluate", type=Path, metavar="DATA", help="score the bundle on DATA, for the card")
    add("--output", type=Path, required=True, help="the bundle's folder, e.g. models/edge-clip")
    return parser


if __name__ == "__main__":
    sys.exit(main())
