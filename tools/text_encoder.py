"""Make models/text-encoder: any English phrase -> CLIP's text space, offline, in under 25 MB.

    python -m tools.text_encoder                    make it and measure it on held-out names
    python -m tools.text_encoder --scenes FOLDER    also judge it by pictures, one folder a scene,
                                                    through the image encoder of a bundle

all-MiniLM-L6-v2 is exported as ONNX without the words it will not meet: its vocabulary is cut to
ASCII. Its matrices are quantised to int8. The map to CLIP's text space is fitted on the features of
that int8 network.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from edge_runtime.system.files import write_atomically
from tools.factory.text.encoder import build_encoder, figures_table
from tools.factory.text.rows import DEFAULT_WEIGHTS
from tools.lib.command import run_verb, verb_parser

OUT = Path("models/text-encoder")


def main(argv: list[str] | None = None) -> int:
    """Run the verb; returns the exit code."""
    return run_verb(_parser(), _text_encoder, argv)


def _text_encoder(args: argparse.Namespace) -> str:
    encoder = build_encoder(args.weights, args.scenes, args.bundle)
    for name, data in encoder.files.items():
        write_atomically(args.out / name, data)

    line = f"{args.out}: {encoder.megabytes:.1f} MB"
    return f"{line}\n{figures_table(encoder.figures)}\n{encoder.scenes}".rstrip("\n")


def _parser() -> argparse.ArgumentParser:
    parser = verb_parser("tools.text_encoder", __doc__, whole=True)
    add = parser.add_argument
    bundle = Path("models/edge-clip")
    add("--out", type=Path, default=OUT, metavar="DIR", help=f"default {OUT}")
    add("--weights", type=Path, default=DEFAULT_WEIGHTS, help="folder of the shared CLIP text rows")
    add("--scenes", type=Path, metavar="FOLDER", help="pictures, one folder a scene")
    add(
        "--bundle",
        type=Path,
        default=bundle,
        help="whose taught rows the map learns, and whose image encoder judges",
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
