"""How often a bundle says of real clips what is not there, and how often what is.

    python -m tools.measure.clip_labels --videos ../shared/data/videos

Each clip of tools/recipes/clip_labels.yaml runs through the pipeline as with `edge-label --camera
CLIP`, consensus included, once for each label set. The frames that were looked at are compared with
what a person saw in them. A label is wrong when it is on, was judged, and is neither right nor
acceptable; `wrong` is the share of frames with such a label. `found` is the share of right answers
that were given: of all groups of all frames that have a right label, those in which one is on. So a
set that says nothing is never wrong, and finds nothing.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from edge_runtime.camera import open_source
from edge_runtime.config import CameraConfig, ConsensusConfig, ModelConfig
from edge_runtime.engine import Engine, load_engine
from edge_runtime.errors import DataError, NoInputError
from edge_runtime.pipeline import Pipeline
from edge_runtime.system.strict_yaml import parse, read_text
from tools.lib.command import run_verb, verb_parser
from tools.lib.markdown import table
from tools.lib.paths import RECIPES

FRAMES = 100  # of each clip, as many as were looked at


@dataclass(frozen=True)
class Seen:
    """The frames for which one label is right or acceptable: "all", "", or "0-47, 49"."""

    right: str = ""
    acceptable: str = ""


@dataclass(frozen=True)
class Clip:
    """What a person saw in a clip: label set -> group -> label -> frames."""

    name: str  # in the table
    frames: int
    labels: dict[str, dict[str, dict[str, Seen]]]


@dataclass(frozen=True)
class Judgement:
    """The whole file: the labels of each set that were judged, and the clips by file name."""

    judged: dict[str, tuple[str, ...]]
    clips: dict[str, Clip]


@dataclass(frozen=True)
class Truth:
    """One label set on one frame: the right labels by group, and the acceptable ones."""

    right: Mapping[str, frozenset[str]]
    acceptable: frozenset[str]


@dataclass
class Score:
    """One clip under one label set."""

    clip: str  # its name
    labels: str
    frames: int
    frames_wrong: int
    wrong: dict[str, int]
    missed: dict[str, int]  # "a or b" where either is right
    groups: int  # how many groups of how many frames have a right label
    groups_found: int

    @property
    def share_wrong(self) -> float:
        """The share of frames with a wrong label on."""
        return self.frames_wrong / self.frames

    @property
    def share_found(self) -> float | None:
        """The share of right answers that were given; None if there is nothing to find."""
        return self.groups_found / self.groups if self.groups else None


def looked_at(frames: int) -> list[int]:
    """The numbers of the frames that were looked at: up to 100, evenly spaced, both ends."""
    last = frames - 1
    steps = FRAMES - 1
    return sorted({round(step * last / steps) for step in range(FRAMES)})


def ranges(text: str, frames: int) -> frozenset[int]:
    """The frame numbers of "0-47, 49", of "all" and of "". Raises ValueError."""
    if text == "all":
        return frozenset(range(frames))

    numbers: set[int] = set()
    for part in filter(None, (part.strip() for part in text.split(","))):
        first, _, last = part.partition("-")
        start = int(first)
        end = int(last or first)
        if not 0 <= start <= end < frames:
            raise ValueError(f"{part} is no range of frames 0-{frames - 1}")
        numbers.update(range(start, end + 1))
    return frozenset(numbers)


def read_judgement(path: Path) -> Judgement:
    """The file, checked. Raises ConfigError or NoInputError as every configuration does, and
    DataError where the file contradicts itself.
    """
    judgement = parse(read_text(path, "file of clip labels"), str(path), Judgement)
    for name, clip in judgement.clips.items():
        for labels in clip.labels:
            try:
                truth(judgement, name, labels)
            except ValueError as error:
                raise DataError(f"{path}: {name}, {labels}: {error}", "correct the file") from None
    return judgement


def truth(judgement: Judgement, clip: str, labels: str) -> dict[int, Truth]:
    """What a label set should say of each frame that was looked at, by frame number.

    Raises ValueError as `_entries` does.
    """
    entries = _entries(judgement, clip, labels)

    def of_frame(number: int) -> Truth:
        right: dict[str, frozenset[str]] = {}
        for entry in entries:
            if number in entry.right:
                right[entry.group] = right.get(entry.group, frozenset()) | {entry.label}
        return Truth(right, frozenset(e.label for e in entries if number in e.acceptable))

    return {number: of_frame(number) for number in looked_at(judgement.clips[clip].frames)}


@dataclass(frozen=True)
class _Entry:
    """One label of a clip, with frame numbers in place of ranges."""

    group: str
    label: str
    right: frozenset[int]
    acceptable: frozenset[int]


def _entries(judgement: Judgement, clip: str, labels: str) -> list[_Entry]:
    """The labels that a clip shows in some frame.

    Raises ValueError for wrong frame numbers, a label right and acceptable at once, or one that is
    not among those that were judged.
    """
    frames = judgement.clips[clip].frames
    entries = [
        _Entry(group, label, ranges(seen.right, frames), ranges(seen.acceptable, frames))
        for group, by_label in judgement.clips[clip].labels.get(labels, {}).items()
        for label, seen in by_label.items()
    ]
    for entry in entries:
        if entry.label not in judgement.judged.get(labels, ()):
            raise ValueError(f"'{entry.label}' is not under 'judged'")
        if entry.right & entry.acceptable:
            raise ValueError(f"'{entry.label}' is right and acceptable in one frame")
    return entries


def labels_on(path: Path, engine: Engine) -> list[frozenset[str]]:
    """The labels that are on in the record of each frame of a clip."""
    source = open_source(CameraConfig(source=str(path)))
    pipeline = Pipeline(engine, camera=path.name, consensus=ConsensusConfig())
    frames = []
    while not source.ended:
        frame = source.read(1.0)
        if frame is None:
            continue
        record = pipeline.process(frame).record
        frames.append(frozenset(label.name for label in record.labels if label.on))
    source.close()
    return frames


def score(file: str, labels: str, on: list[frozenset[str]], judgement: Judgement) -> Score:
    """Compare what was on in each frame of a clip with what a person saw.

    Raises DataError if the clip has not as many frames as the one that was looked at.
    """
    clip = judgement.clips[file]
    if len(on) != clip.frames:
        raise DataError(
            f"{file}: {len(on)} frames in it, not {clip.frames}", "take the clip that was looked at"
        )

    result = Score(clip.name, labels, 0, 0, {}, {}, 0, 0)
    wrong: Counter[str] = Counter()
    missed: Counter[str] = Counter()
    judged = frozenset(judgement.judged[labels])
    for number, seen in truth(judgement, file, labels).items():
        right = frozenset().union(*seen.right.values())
        mistakes = (on[number] & judged) - right - seen.acceptable
        wrong.update(mistakes)
        unseen = [names for names in seen.right.values() if not names & on[number]]
        missed.update(" or ".join(sorted(names)) for names in unseen)

        result.frames += 1
        result.frames_wrong += bool(mistakes)
        result.groups += len(seen.right)
        result.groups_found += len(seen.right) - len(unseen)
    result.wrong = dict(wrong.most_common())
    result.missed = dict(missed.most_common())
    return result


def check_judged(engine: Engine, labels: str, judgement: Judgement, path: Path) -> None:
    """Raise DataError if the set can say something that nobody has judged."""
    unjudged = sorted(set(engine.score.labels.reported) - set(judgement.judged[labels]))
    if unjudged:
        raise DataError(
            f"{path}: '{unjudged[0]}' of the set {labels} is not under 'judged'",
            "look at the clips, and write down in which frames it is right",
        )


def as_table(scores: list[Score]) -> str:
    """For a document: one row a clip and set; wrong and missing labels with their frames."""
    rows = []
    for each in scores:
        found = "-" if each.share_found is None else f"{each.share_found:.0%}"
        shares = [f"{each.share_wrong:.0%}", found]
        counts = [_counts(each.wrong), _counts(each.missed)]
        rows.append([each.clip, each.labels, str(each.frames), *shares, *counts])
    head = ["clip", "set", "frames", "wrong", "found", "wrong labels: frames", "not found: frames"]
    return table(head, rows, "llrrrl")


def _counts(frames: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in frames.items()) or "-"


def as_json(scores: list[Score]) -> str:
    """For a program: a list with one object a clip and set."""
    shares = [{"share_wrong": each.share_wrong, "share_found": each.share_found} for each in scores]
    rows = [vars(each) | share for each, share in zip(scores, shares, strict=True)]
    return json.dumps(rows, indent=1)


def main(argv: list[str] | None = None) -> int:
    """Run the measurement; returns the exit code."""
    return run_verb(_parser(), _clip_labels, argv)


def _clip_labels(args: argparse.Namespace) -> str:
    judgement = read_judgement(args.truth)
    paths = {file: args.videos / file for file in judgement.clips}
    for path in paths.values():
        if not path.is_file():
            raise NoInputError(f"{path}: no such clip", "docs/pictures.md says where to get it")

    engine = None
    by_clip: dict[str, list[Score]] = {file: [] for file in paths}
    for labels in judgement.judged:
        engine = load_engine(ModelConfig(bundle=args.bundle, labels=labels, top_k=1), engine)
        check_judged(engine, labels, judgement, args.truth)
        for file, path in paths.items():
            by_clip[file].append(score(file, labels, labels_on(path, engine), judgement))

    scores = [each for of_clip in by_clip.values() for each in of_clip]
    return as_json(scores) if args.json else as_table(scores)


def _parser() -> argparse.ArgumentParser:
    parser = verb_parser("tools.measure.clip_labels", __doc__, whole=True)
    add = parser.add_argument
    add("--videos", type=Path, required=True, metavar="DIR", help="folder of the clips")
    add("--bundle", metavar="DIR", help="default: the one edge-label would use")
    add(
        "--truth",
        type=Path,
        default=RECIPES / "clip_labels.yaml",
        metavar="FILE",
        help="what is to be seen in the clips (tools/recipes/clip_labels.yaml)",
    )
    add("--json", action="store_true", help="machine-readable")
    return parser


if __name__ == "__main__":
    sys.exit(main())
