"""Make the text bank of a bundle: text_bank.npy and text_bank.json.

    python -m tools.prompts --out DIR                                   offline: genuine rows,
    approximate phrases
    python -m tools.prompts --out DIR --teacher openai/clip-vit-base-patch32      every row from a
    real CLIP

Offline, every name of the shared bank is exact; the phrases of the label sets and of
tools/recipes/phrases.txt that it lacks come from the sentence map and are listed as approximate.
The result depends on its inputs only.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from edge_runtime.errors import EdgeLabelError
from edge_runtime.files import write_atomically
from tools.factory.bundling.text_bank import offline_bank, teacher_bank, wanted_phrases
from tools.factory.teachers.load import load_teacher
from tools.factory.text.sentence_map import DEFAULT_WEIGHTS, load_text_rows, unique_rows
from tools.lib.paths import RECIPES


def main() -> int:
    """Command line; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.prompts",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--out", type=Path, required=True, metavar="DIR", help="where the two files go"
    )
    parser.add_argument(
        "--teacher", default="offline", help="offline (default), or a CLIP transformers can load"
    )
    parser.add_argument(
        "--labels", type=Path, nargs="*", default=sorted((RECIPES / "labels").glob("*.yaml"))
    )
    parser.add_argument("--phrases", type=Path, nargs="*", default=[RECIPES / "phrases.txt"])
    parser.add_argument(
        "--weights", type=Path, default=DEFAULT_WEIGHTS, help="folder of the shared text bank"
    )
    options = parser.parse_args()
    try:
        phrases = wanted_phrases(options.labels, options.phrases)
        if options.teacher == "offline":
            bank = offline_bank(phrases, options.weights)
        else:
            names = (
                list(unique_rows(load_text_rows(options.weights)))
                if options.weights.is_dir()
                else []
            )
            bank = teacher_bank(load_teacher(options.teacher), phrases, names)
        for name, data in bank.files().items():
            write_atomically(options.out / name, data)
    except EdgeLabelError as error:
        parser.exit(error.exit_code, f"tools.prompts: {error}\n")
    exact = len(bank.names) - len(bank.approximate)
    print(
        f"{options.out}: {len(bank.names)} names, {exact} exact, {len(bank.approximate)} approximate"
    )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
