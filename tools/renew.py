"""Put a new text bank and new label sets into a bundle: `python -m tools.renew OLD --bank DIR ...`.

The encoder stays, byte for byte, and so does what the bundle says of it. The card gets the new
version, the new rows and, with --evaluate, the new scores. Calibrate afterwards
(`python -m tools.calibrate`): old thresholds were fitted on the old rows.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from tools.factory.bundling.renew import renew_bundle
from tools.lib.command import run_verb, verb_parser
from tools.lib.paths import RECIPES


def main(argv: list[str] | None = None) -> int:
    """Run the verb; returns the exit code."""
    return run_verb(_parser(), _renew, argv)


def _renew(args: argparse.Namespace) -> str:
    renew_bundle(args.bundle, args.bank, args.labels, args.version, args.output, args.evaluate)
    return f"{args.output}: version {args.version}, opened and verified"


def _parser() -> argparse.ArgumentParser:
    parser = verb_parser("tools.renew", __doc__)
    add = parser.add_argument
    shipped = sorted((RECIPES / "labels").glob("*.yaml"))
    add("bundle", type=Path, help="the bundle whose encoder stays")
    add("--bank", type=Path, required=True, help="folder of tools.prompts, or another bundle")
    add("--labels", type=Path, nargs="*", default=shipped, help="label sets (those that ship)")
    add("--version", required=True, help="of the new bundle, e.g. 0.5.0")
    add("--evaluate", type=Path, metavar="DATA", help="score the bundle on DATA, for the card")
    add("--output", type=Path, required=True, help="the new bundle's folder; may be the old one")
    return parser


if __name__ == "__main__":
    sys.exit(main())
