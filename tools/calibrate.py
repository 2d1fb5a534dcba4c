"""Make scores mean what they say.

python -m tools.calibrate bundle models/edge-clip --data DATA [--evaluate EVAL.zip] [--write]
    Fits one logit scale and one threshold for a bundle, on the held-out pictures of the training
    pack only. --evaluate reports, on other pictures, the calibration error before and after, and
    how far known classes stand from unknown ones.

python -m tools.calibrate sets models/edge-clip --data DATA [--write]
    Calibrates the label sets that ship with a bundle.

python -m tools.calibrate views models/edge-clip --data DATA [--write]
    Fits the direction of strange views, by which a frame that shows nothing is refused. Run it
    again for every new encoder.

python -m tools.calibrate labels my.yaml --pictures FOLDER [--labelled FOLDER] [--prototypes FOLDER]
    Writes my.calibrated.yaml for one camera: biases from its unlabelled pictures; temperature,
    biases and thresholds from labelled ones (one folder a label, `none` for none of them); labels
    shown by pictures (one folder a label, a few pictures each) mixed with their words.

DATA holds distill and second, unpacked side by side.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from tools.factory.calibration.bundle import calibrate_bundle
from tools.factory.calibration.labels import calibrate_labels
from tools.factory.calibration.sets import calibrate_sets
from tools.factory.calibration.views import calibrate_views
from tools.factory.evaluation.embedding_cache import cache_folder
from tools.lib.command import run_verb, verb_parser
from tools.lib.paths import RECIPES


def main(argv: list[str] | None = None) -> int:
    """Run the verb; returns the exit code."""
    return run_verb(_parser(), lambda args: args.work(args), argv)


def _bundle(args: argparse.Namespace) -> str:
    return calibrate_bundle(
        args.bundle,
        args.recipe,
        args.data,
        cache=args.cache,
        evaluation=args.evaluate,
        write=args.write,
    )


def _sets(args: argparse.Namespace) -> str:
    return calibrate_sets(
        args.bundle, args.data, most=args.most, cache=args.cache, write=args.write
    )


def _views(args: argparse.Namespace) -> str:
    return calibrate_views(
        args.bundle, args.data, most=args.most, cache=args.cache, write=args.write
    )


def _labels(args: argparse.Namespace) -> str:
    return calibrate_labels(
        args.labels,
        args.bundle,
        pictures=args.pictures,
        labelled=args.labelled,
        prototypes=args.prototypes,
        output=args.output,
        cache=args.cache,
    )


def _parser() -> argparse.ArgumentParser:
    parser = verb_parser("tools.calibrate", __doc__, whole=True)
    verbs = parser.add_subparsers(metavar="bundle|sets|views|labels", required=True)

    bundle = verbs.add_parser("bundle", help="one logit scale and one threshold for a bundle")
    add = bundle.add_argument
    recipe = RECIPES / "edge-clip.yaml"
    add("bundle", type=Path, help="bundle directory")
    add("--recipe", type=Path, default=recipe, help="whose data it was trained on")
    add("--data", type=Path, required=True, help="the folder that recipe's paths start from")
    add("--evaluate", type=Path, metavar="DATA", help="report on other pictures")
    add("--write", action="store_true", help="put it all into manifest, card and evaluation/")
    bundle.set_defaults(work=_bundle)

    sets = verbs.add_parser("sets", help="the label sets that ship with a bundle")
    add = sets.add_argument
    add("bundle", type=Path, help="bundle directory")
    add("--data", type=Path, required=True, help="distill.zip and second.zip, unpacked there")
    add("--most", type=int, default=60, metavar="N", help="pictures a label (default 60)")
    add("--write", action="store_true", help="put the calibrated sets into the bundle")
    sets.set_defaults(work=_sets)

    views = verbs.add_parser("views", help="the direction of strange views")
    add = views.add_argument
    add("bundle", type=Path, help="bundle directory")
    add("--data", type=Path, required=True, help="the folder that holds distill and second")
    add("--most", type=int, default=400, metavar="N", help="pictures a kind (default 400)")
    add("--write", action="store_true", help="put direction and limit into the bundle")
    views.set_defaults(work=_views)

    labels = verbs.add_parser(
        "labels", help="biases, temperature and thresholds of a label set, for one camera"
    )
    add = labels.add_argument
    add("labels", help="a label set: a YAML file, or the name of one that ships")
    add("--bundle", metavar="DIR", help="default: the one edge-label would use")
    add("--pictures", type=Path, help="what the camera usually sees, without labels")
    add("--labelled", type=Path, help="one folder of pictures a label")
    add("--prototypes", type=Path, help="one folder a label, of pictures that show it")
    add("--output", type=Path, help="default: NAME.calibrated.yaml")
    labels.set_defaults(work=_labels)

    cache = cache_folder()
    for verb in (bundle, sets, views, labels):
        verb.add_argument(
            "--cache", type=Path, default=cache, help="kept embeddings (default: %(default)s)"
        )
    return parser


if __name__ == "__main__":
    sys.exit(main())
