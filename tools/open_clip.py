"""Make a teacher of your open_clip checkpoint: `python -m tools.open_clip MODEL WEIGHTS`.

    python -m tools.open_clip ViT-B-32 open_clip_model.safetensors --output my-clip

Writes a folder that transformers loads. Every verb takes it: as `teacher: {name: my-clip}` in a
recipe, as `--teacher my-clip`, and as `edge-label labels build --text-encoder my-clip`. It holds
the same network: nothing is trained or rounded. Nothing in the file of weights is executed.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from tools.factory.teachers.open_clip import convert, find_model
from tools.lib.command import run_verb, verb_parser


def main(argv: list[str] | None = None) -> int:
    """Run the verb; returns the exit code."""
    return run_verb(_parser(), _open_clip, argv)


def _open_clip(args: argparse.Namespace) -> str:
    model = find_model(args.model, args.vocabulary)
    return convert(model, args.weights, args.output)


def _parser() -> argparse.ArgumentParser:
    parser = verb_parser("tools.open_clip", __doc__, whole=True)
    add = parser.add_argument
    add("model", help="what open_clip calls it, such as ViT-B-32, or its configuration (JSON)")
    add("weights", type=Path, help="state dict or training checkpoint: .safetensors, .pt or .bin")
    add("--output", type=Path, required=True, metavar="DIR", help="folder to write")
    add("--vocabulary", type=Path, metavar="FILE", help="default: that of the installed open_clip")
    return parser


if __name__ == "__main__":
    sys.exit(main())
