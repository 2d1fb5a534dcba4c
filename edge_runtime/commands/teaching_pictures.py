"""The pictures that teach a label set: which there are, and which label each one shows.

``PICTURES/<label>/`` holds pictures of a label and ``PICTURES/none/`` pictures of none of them
(``picture_folders.py``). A picture that lies in PICTURES itself must be a capture of a trigger: its
sidecar says which labels were on. A folder wins over a sidecar, since a person chose it.
"""

from __future__ import annotations

import difflib
import json
import logging
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edge_runtime.camera.folder import pictures_below
from edge_runtime.camera.pictures import is_picture
from edge_runtime.errors import DataError, NoInputError, one_line, printable
from edge_runtime.model.labels.compiled import CompiledLabels
from edge_runtime.model.labels.label_set import LabelSet
from edge_runtime.model.labels.phrases import normalise
from edge_runtime.model.labels.picture_folders import NONE_FOLDER, label_name
from edge_runtime.model.labels.taught import NONE
from edge_runtime.sinks.triggers.sink import SCHEMA as CAPTURE_SCHEMA
from edge_runtime.system.files import read_capped

log = logging.getLogger("edge_label")

# Of one group. More teach hardly more, and the fit would take over 180 MB and minutes on a Pi 4.
MOST_PICTURES = 1000

_MAX_SIDECAR = 1 << 20


@dataclass(frozen=True, slots=True)
class TeachingPicture:
    """A picture and the labels that it shows: one, or for a capture one a group; or `NONE`."""

    path: Path
    labels: tuple[str, ...]


def find_pictures(root: Path, label_set: LabelSet) -> list[TeachingPicture]:
    """All teaching pictures below a folder, in the order of their names.

    Raises NoInputError where there is no such folder, DataError for a folder of no label of the
    set, or where there is no picture.
    """
    if not root.exists():
        raise NoInputError(f"{root}: no such folder", "give the folder that holds <label>/*.jpg")
    if not root.is_dir():
        raise DataError(f"{root}: is not a folder", "give the folder that holds <label>/*.jpg")

    label_of = {normalise(label.name): label.name for label in label_set.labels}
    pictures: list[TeachingPicture] = []
    loose: list[Path] = []
    for entry in _entries(root):
        if entry.is_dir():
            label = _label_of_folder(entry, label_of)
            pictures += [TeachingPicture(path, (label,)) for path in _pictures_in(entry)]
        elif is_picture(entry):
            loose.append(entry)

    pictures += _captures(root, loose, set(label_of.values()))
    if not pictures:
        raise DataError(f"{root}: no teaching pictures in it", "put some into <label>/ below it")
    return pictures


def _entries(root: Path) -> list[Path]:
    try:
        return sorted(entry for entry in root.iterdir() if not entry.name.startswith((".", "@")))
    except OSError as error:
        raise DataError(one_line(error), "check it with ls -ld") from error


def _label_of_folder(folder: Path, label_of: dict[str, str]) -> str:
    """The label that a folder is named after, or `NONE`. Raises DataError where there is none."""
    if folder.name == NONE_FOLDER:
        return NONE

    key = normalise(label_name(folder.name))
    label = label_of.get(key)
    if label is not None:
        return label

    near = difflib.get_close_matches(key, label_of, n=3)
    names = ", ".join(f"'{label_of[name]}'" for name in near)
    advice = f"did you mean {names}?" if near else "edge-label labels list SET shows its labels"
    raise DataError(f"{folder}: the label set has no label '{label_name(folder.name)}'", advice)


def _pictures_in(folder: Path) -> list[Path]:
    """The pictures of a label. An empty folder is said and left out."""
    try:
        return pictures_below(folder)
    except DataError as error:
        log.warning("%s; it teaches nothing", error)
        return []


def _captures(root: Path, paths: Iterable[Path], labels: set[str]) -> list[TeachingPicture]:
    """Captures with labels of the set; the others are counted in one line."""
    captures = []
    left_out = []
    for path in paths:
        shown = tuple(label for label in _labels_on(path) if label in labels)
        if shown:
            captures.append(TeachingPicture(path, shown))
        else:
            left_out.append(path)

    if left_out:
        line = (
            f"{root}: left out: {len(left_out)} pictures that lie in no label's folder and have no "
            f"sidecar with a label of the set that was on; the first is {left_out[0].name}"
        )
        log.warning("%s", printable(line))
    return captures


def _labels_on(path: Path) -> list[str]:
    """The labels that were on in the record of a capture; none where its sidecar is no sidecar."""
    sidecar = path.with_suffix(".json")
    if not os.path.lexists(sidecar):
        return []
    try:
        fields = json.loads(read_capped(sidecar, _MAX_SIDECAR))
        if fields["schema"] != CAPTURE_SCHEMA:
            return []
        return [str(label["name"]) for label in fields["record"]["labels"] if label["on"] is True]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return []


def choose_pictures(found: list[TeachingPicture], words: CompiledLabels) -> list[TeachingPicture]:
    """The pictures that teach: of a group with more than `MOST_PICTURES`, an even choice."""
    places_of: dict[str, list[int]] = {}
    for place, picture in enumerate(found):
        for label in picture.labels:
            places_of.setdefault(label, []).append(place)

    shares = {label: len(places) for label, places in places_of.items()}
    for name, rows in words.groups:
        labels = {*words.names[rows], NONE} & places_of.keys()
        if labels:
            share = _share(name, [len(places_of[label]) for label in labels])
            shares |= {label: min(shares[label], share) for label in labels}

    chosen: set[int] = set()
    for label, places in places_of.items():
        spread = np.linspace(0, len(places) - 1, shares[label]).round().astype(int)
        chosen.update(places[i] for i in spread.tolist())
    return [picture for place, picture in enumerate(found) if place in chosen]


def _share(group: str, counts: list[int]) -> int:
    """How many pictures of each label may teach, so that all together are not too many."""
    share = MOST_PICTURES
    while sum(min(count, share) for count in counts) > MOST_PICTURES and share > 1:
        share -= 1

    if share < max(counts):
        log.warning(
            "group %s: %d pictures, more than %d; an even choice of %d a label teaches",
            group,
            sum(counts),
            MOST_PICTURES,
            share,
        )
    return share
