"""What strange views are said to be: `python -m tools.measure.strange_views --data DATA`.

DATA holds distill, second and videos, unpacked side by side. The first table counts, for each way
to hold nonsense back, the wrong labels that are still on in a hundred strange views, over the three
sets that ship together. The second counts the right labels that are lost. No way was fitted on
these pictures, but some of "other packs" taught rows of the text bank. The clips were judged by a
person (clip_labels.yaml); of the other pictures the encoder has seen none, but for the drawings.

Every way that refuses views has its limit where it refuses 2 % of ordinary pictures.
"""

from __future__ import annotations

import argparse
import sys
import timeit
from collections.abc import Callable
from pathlib import Path

import numpy as np

from edge_runtime.model.bundle import Bundle, load_bundle
from edge_runtime.model.labels.compiled import load_labels
from edge_runtime.model.labels.scorer import Scorer
from edge_runtime.model.strange import StrangeViews
from tools.lib import markdown
from tools.lib.command import run_verb, verb_parser
from tools.measure.strange_looks import Looker
from tools.measure.strange_material import SETS, Case, gather
from tools.measure.strange_ways import NOTHING, Way, ways

FEWEST = 20  # right labels that a column of the second table must have


def strange_table(found: dict[str, Way], cases: list[Case]) -> str:
    """Wrong labels that are still on, for a hundred views of each kind; and what share is gone."""
    strange = [case for case in cases if case.is_strange]
    before = np.array([wrong_on(found[NOTHING], case) for case in strange])
    rows = []
    for name, way in found.items():
        left = np.array([wrong_on(way, case) for case in strange])
        gone = 1 - (left / before).mean()
        rows.append([name, *(f"{count:.0f}" for count in left), f"{100 * gone:.0f}"])
    return markdown.table(["way", *(case.name for case in strange), "gone, %"], rows, "lr")


def right_table(found: dict[str, Way], cases: list[Case]) -> str:
    """Right labels lost, in percent of those that are on when nothing is refused."""
    columns = [
        (case, name)
        for case in cases
        for name in SETS
        if right_on(found[NOTHING], case, name) >= FEWEST
    ]
    rows = []
    for way_name, way in found.items():
        lost = [
            100 * (1 - right_on(way, case, name) / right_on(found[NOTHING], case, name))
            for case, name in columns
        ]
        rows.append([way_name, *(f"{share:.1f}" for share in lost)])
    counts = ["right labels on", *(f"{right_on(found[NOTHING], *column)}" for column in columns)]
    head = ["way", *(f"{case.name}: {name}" for case, name in columns)]
    return markdown.table(head, [counts, *rows], "lr")


def wrong_on(way: Way, case: Case) -> float:
    """Wrong labels on in a hundred views, over all sets."""
    on = sum(int((way(name, case.looks) & case.wrong[name]).sum()) for name in SETS)
    return 100 * on / len(case.looks.contrast)


def right_on(way: Way, case: Case, name: str) -> int:
    """Right labels of one set that are on."""
    return int((way(name, case.looks) & case.right[name]).sum())


def cost_line(bundle: Bundle) -> str:
    """What the direction costs beside scoring: the fastest of many calls."""
    is_strange = StrangeViews.from_bundle(bundle)
    if is_strange is None:
        return "The bundle has no direction."
    score = Scorer(load_labels("road", bundle))
    embedding = np.full(bundle.manifest.dim, bundle.manifest.dim**-0.5, np.float32)
    direction_us = _fastest_us(lambda: is_strange(embedding, 50.0))
    score_us = _fastest_us(lambda: score(embedding))
    return (
        f"A frame: the direction {direction_us:.1f} microseconds, scoring with the set road "
        f"{score_us:.0f}."
    )


def _fastest_us(step: Callable[[], object]) -> float:
    return 1e5 * min(timeit.repeat(step, number=10, repeat=2000))


def main(argv: list[str] | None = None) -> int:
    """Run the measurement; returns the exit code."""
    return run_verb(_parser(), _strange_views, argv)


def _strange_views(args: argparse.Namespace) -> str:
    bundle = load_bundle(args.bundle)
    material = gather(bundle, Looker(bundle), args.data, args.most)
    found = ways(material)
    tables = (strange_table(found, material.cases), right_table(found, material.cases))
    return "\n\n".join((*tables, cost_line(bundle)))


def _parser() -> argparse.ArgumentParser:
    parser = verb_parser("tools.measure.strange_views", __doc__, whole=True)
    add = parser.add_argument
    bundle = Path("models/edge-clip")
    add("--data", type=Path, required=True, help="the folder that holds distill, second and videos")
    add("--bundle", type=Path, default=bundle, metavar="DIR", help=f"the bundle ({bundle})")
    add("--most", type=int, default=100, metavar="N", help="pictures a kind (100)")
    return parser


if __name__ == "__main__":
    sys.exit(main())
