"""Make the text bank of a bundle: text_bank.npy and text_bank.json.

    python -m tools.prompts --out DIR                       offline
    python -m tools.prompts --out DIR --teach models/edge-clip --data DATA
    python -m tools.prompts --out DIR --teacher openai/clip-vit-base-patch32

Offline, every name of the shared bank is exact. The phrases that it lacks, of the label sets and of
tools/recipes/phrases.txt, come from the sentence map and are listed as approximate. With --teach,
the rows of the names in tools/recipes/taught.yaml move to where that bundle's encoder puts pictures
of them; such a bank is for that encoder. With a real CLIP as teacher every row is exact. The result
depends on its inputs only.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from edge_runtime.errors import UsageError
from edge_runtime.model.bundle import load_bundle
from edge_runtime.system.files import write_atomically
from tools.factory.bundling.lessons import load_lessons, read_recipe
from tools.factory.bundling.text_bank import Bank, offline_bank, teacher_bank, wanted_phrases
from tools.factory.data.entries import TEACH
from tools.factory.evaluation.embedding_cache import CachedEncoder, cache_folder
from tools.factory.teachers.load import load_teacher
from tools.factory.text.rows import DEFAULT_WEIGHTS, load_text_rows, unique_rows
from tools.lib.command import run_verb, verb_parser
from tools.lib.paths import RECIPES


def main(argv: list[str] | None = None) -> int:
    """Run the verb; returns the exit code."""
    return run_verb(_parser(), _prompts, argv)


def _prompts(args: argparse.Namespace) -> str:
    bank = _bank(args)
    for name, data in bank.files().items():
        write_atomically(args.out / name, data)

    exact = len(bank.names) - len(bank.approximate) - len(bank.taught)
    return (
        f"{args.out}: {len(bank.names)} names, {exact} exact, {len(bank.taught)} taught, "
        f"{len(bank.approximate)} approximate"
    )


def _bank(args: argparse.Namespace) -> Bank:
    phrases = wanted_phrases(args.labels, args.phrases)
    if args.teacher == "offline":
        return _offline(args, phrases)

    names: list[str] = []
    if args.weights.is_dir():
        names = list(unique_rows(load_text_rows(args.weights)))
    return teacher_bank(load_teacher(args.teacher), phrases, names)


def _offline(args: argparse.Namespace, phrases: dict[str, str]) -> Bank:
    if not args.teach:
        return offline_bank(phrases, args.weights)
    if not args.data:
        raise UsageError("--teach: needs pictures", "give --data DIR, see docs/pictures.md")
    bundle = load_bundle(args.teach)
    with CachedEncoder(bundle, args.cache) as encode:
        lessons = load_lessons(read_recipe(), args.data, encode, TEACH)
    return offline_bank(phrases, args.weights, lessons, bundle.manifest.logit_scale)


def _parser() -> argparse.ArgumentParser:
    parser = verb_parser("tools.prompts", __doc__, whole=True)
    add = parser.add_argument
    shipped = sorted((RECIPES / "labels").glob("*.yaml"))
    lists = [RECIPES / "phrases.txt"]
    add("--out", type=Path, required=True, metavar="DIR", help="where the two files go")
    add("--teacher", default="offline", help="offline, or a CLIP transformers can load (offline)")
    add("--teach", type=Path, metavar="BUNDLE", help="whose encoder sees the pictures that teach")
    add("--data", type=Path, help="distill.zip and second.zip, unpacked there side by side")
    add("--cache", type=Path, default=cache_folder(), help="folder that keeps the embeddings")
    add("--labels", type=Path, nargs="*", default=shipped, help="label sets (those that ship)")
    add("--phrases", type=Path, nargs="*", default=lists, help="lists of phrases, one a line")
    add("--weights", type=Path, default=DEFAULT_WEIGHTS, help="folder of the shared text bank")
    return parser


if __name__ == "__main__":
    sys.exit(main())
