"""What taught rows say of pictures that did not teach them: `python -m tools.measure.conditions`.

Rows are taught twice over, each time without the pictures that are then asked about:

  other half      one half of the pictures teaches, the other is asked, and the reverse
  other sources   all pictures of one source are asked, the other sources teach, each in turn

Each group is asked in two ways: with the phrases of taught.yaml, and with the phrases of
left_out.yaml, which only the sentence map knows. "Words" are the rows without pictures. Right is
the mean over names; a name and its pictures count once a source. Asked about are the names that
the other pictures taught.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import yaml
from numpy.typing import NDArray

from edge_runtime.model.bundle import load_bundle
from edge_runtime.model.labels.phrases import bare, normalise
from tools.factory.bundling.lessons import Lesson, load_lessons, read_recipe
from tools.factory.bundling.taught import STRENGTH, rivals_of, taught_rows
from tools.factory.data.entries import part_of
from tools.factory.evaluation.embedding_cache import CachedEncoder, cache_folder
from tools.factory.text.rows import DEFAULT_WEIGHTS, load_text_rows, unique_rows, unit, with_taught
from tools.factory.text.sentence_map import Remembered, SentenceFeatures, SentenceMap
from tools.lib import markdown
from tools.lib.command import run_verb, verb_parser
from tools.lib.paths import RECIPES

FEWEST = 8  # pictures of a source that are asked about
MANY = 12  # names of a group; of more, only those are candidates that the asked pictures show
ASKED = ("weather", "time of day", "roads", "scenes", "aerial")
NAMED = {"weather": ("fog",), "time of day": ("night", "day")}

Phrases = dict[str, tuple[str, ...]]  # name -> phrases
Rows = Callable[[Sequence[str]], NDArray[np.float32]]  # phrases -> unit rows


@dataclass
class Answers:
    """Of one group asked in one way: (name, source) -> which name won, by picture."""

    won: dict[tuple[str, str], list[str]]

    def add(self, name: str, source: str, winners: Sequence[str]) -> None:
        """More answers to pictures of a name; name "" for pictures of no single name."""
        self.won.setdefault((name, source), []).extend(winners)

    def right(self) -> float:
        """Mean over names of the mean over sources."""
        by_name: dict[str, list[float]] = {}
        for (name, _), winners in self.won.items():
            if name and len(winners) >= FEWEST:
                by_name.setdefault(name, []).append(winners.count(name) / len(winners))
        return float(np.mean([np.mean(shares) for shares in by_name.values()]))

    def found(self, name: str) -> tuple[float, float]:
        """(share of its pictures that it wins, share of all others that it wins)."""
        own = [w for (shown, _), winners in self.won.items() if shown == name for w in winners]
        others = [w for (shown, _), winners in self.won.items() if shown != name for w in winners]
        return own.count(name) / max(len(own), 1), others.count(name) / max(len(others), 1)


def source_of(file: str) -> str:
    """The folder that a picture came in: distill/driving, second/mwd_foggy."""
    return "/".join(file.split("/")[:2])


def splits(lessons: Sequence[Lesson]) -> Iterator[tuple[str, list[NDArray[np.bool_]]]]:
    """(kind of split, which pictures of each lesson are asked); the others teach."""
    halves = [np.array([part_of(file, 2) for file in lesson.files]) for lesson in lessons]
    for half in (0, 1):
        yield "other half", [own == half for own in halves]

    sources = [np.array([source_of(file) for file in lesson.files]) for lesson in lessons]
    for source in sorted({name for own in sources for name in own.tolist()}):
        parts = [own == source for own in sources]
        # A source that is most of a group leaves nothing to teach with.
        yield "other sources", [part & (part.mean() < 0.5) for part in parts]


class Bench:
    """Text rows and lessons: teaches with some pictures and asks about the others."""

    def __init__(self, weights: Path, lessons: list[Lesson], scale: float, strength: float) -> None:
        self._rows = load_text_rows(weights)
        self._exact = unique_rows(self._rows)
        self._features = Remembered(SentenceFeatures())
        self._map = SentenceMap(self._rows, self._features)
        self._scale = scale
        self._strength = strength
        self.lessons = lessons
        names = {phrase for lesson in lessons for own in lesson.phrases.values() for phrase in own}
        self._rivals = rivals_of(self._exact, names)

    def text(self, phrases: Sequence[str]) -> NDArray[np.float32]:
        """Rows without pictures."""
        return _looked_up(phrases, self._exact, self._map)

    def taught(self, asked: list[NDArray[np.bool_]]) -> Rows:
        """Rows that the pictures teach which are not asked about, and a map that knows them."""
        pairs = zip(self.lessons, asked, strict=True)
        teaching = [lesson.chosen(~part) for lesson, part in pairs if part.any()]
        taught = taught_rows(teaching, self.text, self._rivals, self._scale, self._strength)
        rows = with_taught(self._rows, taught)
        known = self._exact | taught
        mapped = SentenceMap(rows, self._features)
        return lambda phrases: _looked_up(phrases, known, mapped)


def _looked_up(
    phrases: Sequence[str], known: dict[str, NDArray[np.float32]], mapped: SentenceMap
) -> NDArray[np.float32]:
    keys = [bare(normalise(phrase)) for phrase in phrases]
    missing = [key for key in keys if key not in known]
    rows = known | dict(zip(missing, mapped(missing), strict=True)) if missing else known
    return np.stack([rows[key] for key in keys])


def ask(lesson: Lesson, rows: Rows, phrases: Phrases, into: Answers) -> None:
    """Ask about a lesson's pictures with the mean row of each name's phrases."""
    single = lesson.single
    shown = np.where(single, lesson.shows.argmax(axis=1), -1)
    names = list(phrases)
    if len(names) > MANY:
        columns = [lesson.names.index(name) for name in names]
        names = [n for n, c in zip(names, columns, strict=True) if (shown == c).sum() >= FEWEST]
    if len(names) < 2:
        return

    centres = np.stack([rows(phrases[name]).mean(axis=0) for name in names])
    winners = (lesson.pictures @ unit(centres).T).argmax(axis=1)
    for place in np.flatnonzero(~lesson.shows[:, -1]):
        name = lesson.names[shown[place]] if single[place] else ""
        if name in names or not single[place]:
            into.add(name, source_of(lesson.files[place]), [names[winners[place]]])


def learnt(lesson: Lesson) -> set[str]:
    """The names that the lesson has pictures of; the others could only lose to these."""
    counts = lesson.shows[lesson.single, :-1].sum(axis=0)
    return {name for name, count in zip(lesson.names, counts, strict=True) if count >= FEWEST}


def measure(bench: Bench, left_out: dict[str, Phrases]) -> dict[tuple[str, ...], Answers]:
    """(split, group, phrases, rows) -> answers."""
    answers: dict[tuple[str, ...], Answers] = {}
    for split, asked in splits(bench.lessons):
        if not any(part.any() for part in asked):
            continue
        by_rows = {"words": bench.text, "taught": bench.taught(asked)}
        for lesson, part in zip(bench.lessons, asked, strict=True):
            if not part.any():
                continue
            names = learnt(lesson.chosen(~part))
            ways = {"taught.yaml": lesson.phrases, "left_out.yaml": left_out.get(lesson.group, {})}
            for way, own_phrases in ways.items():
                phrases = {name: own for name, own in own_phrases.items() if name in names}
                for kind, rows in by_rows.items():
                    own = answers.setdefault((split, lesson.group, way, kind), Answers({}))
                    ask(lesson.chosen(part), rows, phrases, own)
    return {key: own for key, own in answers.items() if own.won}


def report(answers: dict[tuple[str, ...], Answers]) -> str:
    """The table: words beside taught."""
    lines = []
    for split, group, way, kind in answers:
        if kind == "words":
            pair = [answers[split, group, way, rows] for rows in ("words", "taught")]
            lines.append([split, group, way, *(f"{own.right():.1%}" for own in pair)])
            for name in NAMED.get(group, ()):
                shares = [own.found(name) for own in pair]
                cells = [f"{found:.1%} ({false:.1%})" for found, false in shares]
                lines.append([split, f"{name}: found (false alarms)", way, *cells])
    return markdown.table(["split", "group", "phrases", "words", "taught"], lines, "lllr")


def main(argv: list[str] | None = None) -> int:
    """Run the measurement; returns the exit code."""
    return run_verb(_parser(), _conditions, argv)


def _conditions(args: argparse.Namespace) -> str:
    bundle = load_bundle(args.bundle)
    left_out = yaml.safe_load((RECIPES / "left_out.yaml").read_text(encoding="utf-8"))
    with CachedEncoder(bundle, args.cache) as encode:
        lessons = load_lessons(read_recipe(), args.data, encode)
    lessons = [lesson for lesson in lessons if lesson.group in ASKED]
    bench = Bench(args.weights, lessons, bundle.manifest.logit_scale, args.strength)
    return report(measure(bench, left_out))


def _parser() -> argparse.ArgumentParser:
    parser = verb_parser("tools.measure.conditions", __doc__, whole=True)
    add = parser.add_argument
    bundle = Path("models/edge-clip")
    weights = DEFAULT_WEIGHTS
    add("--bundle", type=Path, default=bundle, metavar="DIR", help=f"whose encoder ({bundle})")
    add("--data", type=Path, required=True, help="distill.zip and second.zip, unpacked there")
    add("--weights", type=Path, default=weights, help="folder of the shared text rows")
    add("--strength", type=float, default=STRENGTH, help=f"of the words ({STRENGTH:g})")
    add("--cache", type=Path, default=cache_folder(), help="folder that keeps the embeddings")
    return parser


if __name__ == "__main__":
    sys.exit(main())
