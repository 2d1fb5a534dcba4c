"""The pictures of `tools.measure.strange_views`: what fits, and what measures."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from edge_runtime.model.bundle import Bundle
from edge_runtime.model.labels.compiled import CompiledLabels, load_labels
from tools.factory.calibration.views import pictures_of_view, read_recipe
from tools.factory.data.entries import ASK, files_of_entry, pictures_of_files
from tools.factory.data.samples import is_held_out
from tools.factory.data.strange import Picture
from tools.lib.paths import RECIPES
from tools.lib.video import frames_of
from tools.measure import clip_labels
from tools.measure.strange_looks import Looker, Looks, joined

SETS = ("road", "everyday", "indoor")
HELD_OUT = 0.03  # of every source of edge-clip.yaml
MANY = 1_000_000  # all pictures of an entry
BARE = "car park, bare"
CAR_PARK = "intel_car_detection_768x432_12fps.mp4"

Bools = NDArray[np.bool_]
Shown = tuple[Picture, str, str]  # a picture, a label set, a label that is right


@dataclass(frozen=True)
class Case:
    """Pictures of one kind; for each label set which labels are right and wrong (pictures, labels).

    A label that is neither counts neither way.
    """

    name: str
    looks: Looks
    right: dict[str, Bools]
    wrong: dict[str, Bools]
    is_strange: bool = False


@dataclass(frozen=True)
class Material:
    """The sets as they ship, what fits, and what measures."""

    bundle: Bundle
    sets: dict[str, CompiledLabels]
    ordinary: Looks
    weights: NDArray[np.float64]  # of the ordinary pictures, as they fit
    strange: dict[str, Looks]
    cases: list[Case]


def gather(bundle: Bundle, look: Looker, data: Path, most: int) -> Material:
    """Look at all pictures. Raises NoInputError, DataError."""
    recipe = read_recipe()
    sets = {name: load_labels(name, bundle) for name in SETS}
    ordinary = [look(_views(kind, data, most, False)) for kind in recipe["ordinary"].values()]
    counts = [len(part.contrast) for part in ordinary]
    weights = np.concatenate([np.full(count, 1 / np.sqrt(count)) for count in counts])
    strange = {
        kind: look(_views(entries, data, most, False))
        for kind, entries in recipe["strange"].items()
    }
    cases = [*clip_cases(look, sets, data / "videos")]
    for kind, entries in recipe["strange"].items():
        looks = look(_views(entries, data, most, True))
        cases.append(_strange_case(kind, looks, sets, recipe["fitting"].get(kind, [])))
    cases.append(_case("held out", list(held_out_pictures(data)), look, sets))
    cases.append(
        _case("other packs", list(second_pictures(recipe["shows"], data, most)), look, sets)
    )
    return Material(bundle, sets, joined(ordinary), weights, strange, cases)


def _views(entries: list[Any], data: Path, most: int, measuring: bool) -> Iterator[Picture]:
    share = max(1, most // len(entries))
    for entry in entries:
        yield from pictures_of_view(entry, data, share, measuring)


def _strange_case(
    kind: str, looks: Looks, sets: dict[str, CompiledLabels], fitting: list[str]
) -> Case:
    """A strange view has no right label; those that may be true are not wrong."""
    count = len(looks.contrast)
    wrong = {
        name: np.tile(~np.isin(labels.names, fitting), (count, 1)) for name, labels in sets.items()
    }
    right = {name: np.zeros_like(own) for name, own in wrong.items()}
    return Case(kind, looks, right, wrong, is_strange=True)


def _case(name: str, shown: list[Shown], look: Looker, sets: dict[str, CompiledLabels]) -> Case:
    """Pictures of which one right label of one set is known."""
    right = {own: np.zeros((len(shown), len(labels.names)), bool) for own, labels in sets.items()}
    for row, (_, of, label) in enumerate(shown):
        right[of][row, sets[of].names.index(label)] = True
    wrong = {own: np.zeros_like(rows) for own, rows in right.items()}
    return Case(name, look(picture for picture, _, _ in shown), right, wrong)


def held_out_pictures(data: Path) -> Iterator[Shown]:
    """Pictures of calibration.yaml that the encoder's training and every fit here held out."""
    shows = yaml.safe_load((RECIPES / "calibration.yaml").read_text(encoding="utf-8"))
    for name, groups in shows.items():
        for entries in groups.values():
            for label, sources in entries.items():
                for entry in sources if label != "none" else ():
                    files = [
                        file
                        for file in files_of_entry(entry, data, MANY, ASK)
                        if is_held_out(file.relative_to(data).as_posix(), HELD_OUT)
                    ]
                    for picture in pictures_of_files(entry, files):
                        yield picture, name, label


def second_pictures(
    shows: dict[str, dict[str, list[str]]], data: Path, most: int
) -> Iterator[Shown]:
    """Pictures of the second pack, of the half that measures."""
    for name, labels in shows.items():
        for label, patterns in labels.items():
            for pattern in patterns:
                for picture in pictures_of_view(f"second/{pattern}", data, most, True):
                    yield picture, name, label


def clip_cases(look: Looker, sets: dict[str, CompiledLabels], videos: Path) -> Iterator[Case]:
    """The clips; the car park in two parts: the frames without a car, and the others."""
    judgement = clip_labels.read_judgement(RECIPES / "clip_labels.yaml")
    for file, clip in judgement.clips.items():
        frames = _frames(videos / file, set(clip_labels.looked_at(clip.frames)))
        truths = {name: clip_labels.truth(judgement, file, name) for name in sets}
        parts = {clip.name: list(frames)}
        if file == CAR_PARK:
            bare = [n for n in frames if not truths["everyday"][n].right]
            parts = {BARE: bare, "car park, car": [n for n in frames if n not in bare]}
        for part, numbers in parts.items():
            looks = look(frames[number] for number in numbers)
            seen = [{name: truths[name][number] for name in sets} for number in numbers]
            case = _clip_case(part, looks, seen, sets)
            yield replace(case, is_strange=part == BARE)


def _frames(video: Path, wanted: set[int]) -> dict[int, Picture]:
    return {number: frame for number, frame in enumerate(frames_of(video)) if number in wanted}


def _clip_case(
    name: str,
    looks: Looks,
    truths: list[dict[str, clip_labels.Truth]],
    sets: dict[str, CompiledLabels],
) -> Case:
    right = {}
    wrong = {}
    for own, labels in sets.items():
        rights = [frozenset().union(*truth[own].right.values()) for truth in truths]
        fair = [truth[own].acceptable | good for truth, good in zip(truths, rights, strict=True)]
        right[own] = np.array([[label in good for label in labels.names] for good in rights])
        wrong[own] = np.array([[label not in good for label in labels.names] for good in fair])
    return Case(name, looks, right, wrong)
