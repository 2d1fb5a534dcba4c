"""Teach two labels on the car-park clip with 8 frames each, and label the rest.

    python -m tools.measure.car_park ../shared/data/videos

The set `road` gets a group `view` with the labels "car in view" and "empty asphalt". Their frames
also teach "none of these" to all groups of `road`: from above, nothing in this clip is weather,
surface or traffic. car_park.json says which frames teach, and what a person sees in 50 others; in
two of them only the edge of a bumper is in view, and they count as a car. What `road` says of two
other clips must stay. Every frame is labelled for itself, without consensus.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_runtime.cli import main as edge_label
from edge_runtime.config import ModelConfig
from edge_runtime.engine import load_engine
from edge_runtime.errors import DataError
from edge_runtime.labeller import Labeller
from edge_runtime.model.bundle import find_bundle, load_bundle
from edge_runtime.system.opencv import cv2
from tools.lib import markdown
from tools.lib.command import run_verb, verb_parser
from tools.lib.video import frames_of

DATA = Path(__file__).with_suffix(".json")
GROUP = "view"
Frames = list[NDArray[np.uint8]]
On = list[list[str]]  # by frame, the labels that are on


def write_set(folder: Path, labels: list[str], bundle: str | None) -> Path:
    """The set `road` with a group of these labels more."""
    road = load_bundle(find_bundle(bundle)).read("labels/road.yaml").decode()
    own = "".join(f"- {{name: {label}, group: {GROUP}}}\n" for label in labels)
    path = folder / "my.yaml"
    path.write_text(road.replace("labels:\n", f"labels:\n{own}", 1))
    return path


def write_pictures(folder: Path, frames: Frames, teach: dict[str, list[int]]) -> Path:
    """PICTURES/<label>/ and, with the same frames, PICTURES/none/."""
    for label, numbers in teach.items():
        for number in numbers:
            for name in (label, "none"):
                path = folder / "pictures" / name / f"{number:03}.jpg"
                path.parent.mkdir(parents=True, exist_ok=True)
                cv2.imwrite(str(path), frames[number])
    return folder / "pictures"


def labels_on(label_set: Path, frames: Frames, bundle: str | None) -> On:
    """The labels that are on in each frame, the best first."""
    labeller = Labeller(load_engine(ModelConfig(bundle=bundle, labels=str(label_set))))
    records = [labeller(np.ascontiguousarray(frame[:, :, ::-1])) for frame in frames]
    return [[label.name for label in record.labels if label.on] for record in records]


def table(before: On, after: On, data: dict[str, Any], taught: set[int]) -> str:
    """Right answers among the frames that were read, and what else is on in all untaught ones."""
    names = set(data["teach"])
    truth = truth_of(data)
    rest = [number for number in range(len(after)) if number not in taught]
    rows = []
    for title, on in (("words only", before), ("taught", after)):
        right = sum([name for name in on[n] if name in names] == [truth[n]] for n in truth)
        nonsense = sum(bool(set(on[n]) - names) for n in rest)
        rows.append([title, f"{right} of {len(truth)}", f"{100 * nonsense / len(rest):.1f} %"])
    head = ["", "frames read by eye that are right", f"of {len(rest)} frames: a label of road on"]
    return markdown.table(head, rows, "lrr")


def truth_of(data: dict[str, Any]) -> dict[int, str]:
    """Frame -> what a person sees in it."""
    return {number: label for label, numbers in data["read"].items() for number in numbers}


def unchanged(before: On, after: On, names: set[str]) -> float:
    """The share of frames, in percent, in which the labels of `road` that are on are the same."""
    same = [
        set(one) - names == set(other) - names for one, other in zip(before, after, strict=True)
    ]
    return 100 * sum(same) / len(same)


def main(argv: list[str] | None = None) -> int:
    """Run the measurement; returns the exit code."""
    parser = verb_parser("tools.measure.car_park", __doc__, whole=True)
    parser.add_argument("videos", type=Path, help="the folder of the clips")
    parser.add_argument("--bundle", metavar="DIR", help="default: the one edge-label would use")
    return run_verb(parser, _car_park, argv)


def _car_park(args: argparse.Namespace) -> str:
    data = json.loads(DATA.read_text())
    clips = [list(frames_of(args.videos / name)) for name in (data["clip"], *data["others"])]
    bundle = ["--bundle", args.bundle] if args.bundle else []

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        label_set = write_set(folder, list(data["teach"]), args.bundle)
        before = [labels_on(label_set, frames, args.bundle) for frames in clips]
        pictures = write_pictures(folder, clips[0], data["teach"])
        if edge_label(["labels", "learn", str(label_set), str(pictures), *bundle]):
            raise DataError(f"{pictures}: labels learn failed", "its line above says why")
        after = [labels_on(label_set, frames, args.bundle) for frames in clips]

    taught = {number for numbers in data["teach"].values() for number in numbers}
    lines = ["", table(before[0], after[0], data, taught), *_wrong(after[0], data)]
    for place, clip in enumerate(data["others"], 1):
        share = unchanged(before[place], after[place], set(data["teach"]))
        lines.append(f"{clip}: the labels of road are the same in {share:.1f} % of its frames")
    return "\n".join(lines)


def _wrong(answers: On, data: dict[str, Any]) -> list[str]:
    """A line for each frame that was read by eye and is answered otherwise."""
    lines = []
    for n, label in sorted(truth_of(data).items()):
        answer = [name for name in answers[n] if name in data["teach"]]
        if answer != [label]:
            lines.append(f"wrong: frame {n} shows '{label}', answered {answer}")
    return lines


if __name__ == "__main__":
    sys.exit(main())
