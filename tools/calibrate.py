"""Make scores mean what they say.

python -m tools.calibrate bundle models/edge-clip --data DISTILL [--evaluate
    ../shared/data/eval.zip] [--write] one logit scale and one threshold for a bundle, fitted on the
    training pack's held-out pictures only; --evaluate reports the calibration error before and
    after, and known against unknown, on other pictures

python -m tools.calibrate labels my.yaml --pictures FOLDER [--labelled FOLDER] [--prototypes FOLDER]
    my.calibrated.yaml for one camera: biases from its unlabelled pictures; temperature, biases and
    thresholds from labelled ones (one folder a label, `none` for none of them); labels shown by
    pictures (one folder a label, a few pictures each) mixed with their words
"""

from __future__ import annotations

import argparse
from pathlib import Path

from edge_runtime.errors import EdgeLabelError
from tools.factory.calibration.bundle import calibrate_bundle
from tools.factory.calibration.labels import calibrate_labels
from tools.factory.calibration.sets import calibrate_sets
from tools.factory.evaluation.embedding_cache import cache_folder
from tools.lib.paths import RECIPES


def main() -> int:
    """Command line; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.calibrate",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    verbs = parser.add_subparsers(metavar="bundle|sets|labels", required=True)
    bundle = verbs.add_parser("bundle", help="one logit scale and one threshold for a bundle")
    bundle.add_argument("bundle", type=Path, help="bundle directory")
    bundle.add_argument(
        "--recipe",
        type=Path,
        default=RECIPES / "edge-clip.yaml",
        help="whose data it was trained on",
    )
    bundle.add_argument(
        "--data", type=Path, required=True, help="the folder that recipe's paths start from"
    )
    bundle.add_argument(
        "--evaluate",
        type=Path,
        metavar="DATA",
        help="report on other pictures (see tools.evaluate)",
    )
    bundle.add_argument(
        "--write", action="store_true", help="put all that into its manifest, card and evaluation/"
    )
    bundle.set_defaults(run=calibrate_bundle)
    sets = verbs.add_parser("sets", help="the label sets that ship with a bundle")
    sets.add_argument("bundle", type=Path, help="bundle directory")
    sets.add_argument("--data", type=Path, required=True, help="the unpacked distill pack")
    sets.add_argument(
        "--most", type=int, default=40, metavar="N", help="pictures a label (default 40)"
    )
    sets.add_argument(
        "--write", action="store_true", help="put the calibrated sets into the bundle"
    )
    sets.set_defaults(run=calibrate_sets)
    labels = verbs.add_parser(
        "labels", help="biases, temperature and thresholds of a label set, for one camera"
    )
    labels.add_argument("labels", help="a label set: a YAML file, or the name of one that ships")
    labels.add_argument("--bundle", metavar="DIR", help="default: the one edge-label would use")
    labels.add_argument(
        "--pictures", type=Path, help="what the camera usually sees, without labels"
    )
    labels.add_argument("--labelled", type=Path, help="one folder of pictures a label")
    labels.add_argument(
        "--prototypes",
        type=Path,
        help="one folder a label, of pictures that show it; with --pictures",
    )
    labels.add_argument("--output", type=Path, help="default: NAME.calibrated.yaml")
    labels.set_defaults(run=calibrate_labels)
    for verb in (bundle, sets, labels):
        verb.add_argument(
            "--cache",
            type=Path,
            default=cache_folder(),
            help="embeddings made before (default: %(default)s)",
        )
    options = parser.parse_args()
    try:
        print(options.run(options))
    except EdgeLabelError as error:
        parser.exit(error.exit_code, f"tools.calibrate: {error}\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
