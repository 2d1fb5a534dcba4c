"""What a bundle as it ships says of weather, night and roads.

    python -m tools.measure.shipped_conditions --data DATA

Asked are the pictures of taught.yaml that neither taught a row nor calibrated a label set (one part
in five, tools/factory/data/entries.py), in three ways: with phrases that are taught; with phrases
of left_out.yaml, whose rows the shipped text encoder makes; and with the label set road, frame by
frame, as the runtime votes. In the first two ways the best of the group's names is the answer. In
the third, no label may be on. In brackets is the share of pictures of the other labels for which
the label is the answer.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import yaml
from numpy.typing import NDArray

from edge_runtime.model.bundle import Bundle, load_bundle
from edge_runtime.model.labels.compiled import load_labels
from edge_runtime.model.labels.scorer import Scorer
from edge_runtime.model.labels.text_bank import TextBank
from edge_runtime.model.text.encoder import find_text_encoder
from edge_runtime.model.text.text_space import encode_in_space
from tools.factory.bundling.lessons import Lesson, load_lessons, read_recipe
from tools.factory.data.entries import ASK
from tools.factory.evaluation.embedding_cache import CachedEncoder, cache_folder
from tools.factory.text.rows import unit
from tools.lib import markdown
from tools.lib.command import run_verb, verb_parser
from tools.lib.paths import RECIPES

# Group of taught.yaml -> names that are asked -> label of the set road that means it.
ASKED = {
    "weather": {
        "fog": "fog",
        "clear weather": "clear weather",
        "sunny": "clear weather",
        "cloudy": "cloudy",
        "rain": "rain",
        "snowfall": "snowfall",
    },
    "time of day": {"day": "", "dusk": "dusk", "night": "night"},
    "roads": {
        "dry road": "dry road",
        "wet road": "wet road",
        "snowy road": "snowy road",
        "dirt road": "dirt road",
    },
}
ROAD_GROUP = {"weather": "weather", "time of day": "time of day", "roads": "surface"}

# Embeddings (pictures, dim) -> the answer to each: a label of ASKED, or "" for none.
Answer = Callable[[NDArray[np.float64]], list[str]]


@dataclass(frozen=True)
class Asked:
    """Pictures of one group, and the label that is right for each; None: one of several."""

    pictures: NDArray[np.float64]
    right: list[str | None]

    @classmethod
    def of(cls, lesson: Lesson) -> Asked:
        """The pictures that show one of the names that are asked, or one of several of them."""
        labels = ASKED[lesson.group]
        right: list[str | None] = []
        kept = []
        for place, row in enumerate(lesson.shows):
            names = [lesson.names[column] for column in np.flatnonzero(row[:-1])]
            meant = {labels[name] for name in names if name in labels}
            if meant and len(names) == sum(name in labels for name in names):
                kept.append(place)
                right.append(meant.pop() if len(meant) == 1 else None)
        return cls(lesson.pictures[kept], right)

    def score(self, answer: Answer) -> tuple[float, dict[str, tuple[float, float]]]:
        """(mean over labels of the share right, label -> (found, share of the others))."""
        given = answer(self.pictures)
        pairs = list(zip(self.right, given, strict=True))
        found = {}
        for label in sorted({label for label in self.right if label is not None}):
            own = [said == label for right, said in pairs if right == label]
            others = [said == label for right, said in pairs if right not in (label, None)]
            # Of pictures that show one of several, none of this group's labels is known wrong.
            found[label] = (float(np.mean(own)), float(np.mean(others)))
        return float(np.mean([own for own, _ in found.values()])), found


def by_phrases(rows: dict[str, NDArray[np.float32]], labels: dict[str, str]) -> Answer:
    """The best of the names, each a mean row."""
    names = list(labels)
    matrix = unit(np.stack([rows[name] for name in names]))
    return lambda pictures: [labels[names[i]] for i in (pictures @ matrix.T).argmax(axis=1)]


def by_label_set(bundle: Bundle, group: str) -> Answer:
    """What the set road votes for in one of its groups; "" where nothing is on."""
    labels = load_labels("road", bundle)
    scorer = Scorer(labels)
    at = dict(labels.groups)[group]
    names = labels.names[at.start : at.stop]

    def answer(pictures: NDArray[np.float64]) -> list[str]:
        said = []
        for picture in pictures.astype(np.float32):
            scores = scorer(picture)
            on = np.flatnonzero(scores.votes[at]) if scores else []
            said.append(names[on[0]] if len(on) else "")
        return said

    return answer


def answers(bundle: Bundle, lesson: Lesson, left_out: dict[str, list[str]]) -> dict[str, Answer]:
    """Way of asking -> answer."""
    labels = ASKED[lesson.group]
    ways = {"taught phrases": lesson.phrases, "left-out phrases": left_out}
    rows = rows_of(bundle, [phrase for own in ways.values() for n in labels for phrase in own[n]])
    asked = {}
    for way, own in ways.items():
        names = {n: np.stack([rows[phrase] for phrase in own[n]]).mean(axis=0) for n in labels}
        asked[way] = by_phrases(names, labels)
    return asked | {"set road": by_label_set(bundle, ROAD_GROUP[lesson.group])}


def rows_of(bundle: Bundle, phrases: list[str]) -> dict[str, NDArray[np.float32]]:
    """Phrase -> row: the bank's, or what the text encoder beside the bundle makes."""
    bank = TextBank.from_bundle(bundle)
    places = {phrase: bank.find(phrase) for phrase in phrases}
    missing = [phrase for phrase, place in places.items() if place is None]
    encoded = encode_in_space(missing, find_text_encoder(None, bundle.path), bundle, bank)
    made = dict(zip(missing, encoded.rows, strict=True))
    known = {phrase: place for phrase, place in places.items() if place is not None}
    return made | {phrase: bank.rows[place].astype(np.float32) for phrase, place in known.items()}


def report(bundle: Bundle, lessons: list[Lesson], left_out: dict[str, dict[str, list[str]]]) -> str:
    """The table: a line for each group, and for each of its labels."""
    lines = []
    ways: list[str] = []
    for lesson in lessons:
        asked = Asked.of(lesson)
        given = answers(bundle, lesson, left_out[lesson.group])
        ways = list(given)
        scores = [asked.score(answer) for answer in given.values()]
        right = [f"{share:.1%}" for share, _ in scores]
        lines.append([lesson.group, "mean of its labels", str(len(asked.right)), *right])
        for label in scores[0][1]:
            cells = [f"{found[label][0]:.1%} ({found[label][1]:.1%})" for _, found in scores]
            count = sum(right == label for right in asked.right)
            lines.append(["", label or "neither", str(count), *cells])
    return markdown.table(["group", "label", "pictures", *ways], lines, "llr")


def main(argv: list[str] | None = None) -> int:
    """Run the measurement; returns the exit code."""
    return run_verb(_parser(), _shipped_conditions, argv)


def _shipped_conditions(args: argparse.Namespace) -> str:
    bundle = load_bundle(args.bundle)
    left_out = yaml.safe_load((RECIPES / "left_out.yaml").read_text(encoding="utf-8"))
    recipe = {group: own for group, own in read_recipe().items() if group in ASKED}
    with CachedEncoder(bundle, args.cache) as encode:
        lessons = load_lessons(recipe, args.data, encode, ASK)
    return report(bundle, lessons, left_out)


def _parser() -> argparse.ArgumentParser:
    parser = verb_parser("tools.measure.shipped_conditions", __doc__, whole=True)
    add = parser.add_argument
    bundle = Path("models/edge-clip")
    add("--bundle", type=Path, default=bundle, metavar="DIR", help=f"the bundle ({bundle})")
    add("--data", type=Path, required=True, help="distill.zip and second.zip, unpacked there")
    add("--cache", type=Path, default=cache_folder(), help="folder that keeps the embeddings")
    return parser


if __name__ == "__main__":
    sys.exit(main())
