"""The label sets that ship with a bundle, calibrated from the pictures of calibration.yaml."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from edge_runtime.camera.pictures import read_picture
from edge_runtime.errors import DataError, NoInputError
from edge_runtime.model.bundle import Bundle, load_bundle
from edge_runtime.model.labels.compiled import CompiledLabels, compile_labels
from edge_runtime.model.labels.label_set import parse_label_set
from edge_runtime.model.labels.text_bank import TextBank
from tools.factory.bundling.files import update_bundle
from tools.factory.calibration.groups import Calibration, fit_group, with_groups
from tools.factory.calibration.label_file import to_yaml
from tools.factory.data import conditions
from tools.factory.data.samples import SUFFIXES
from tools.factory.evaluation.embedding_cache import CachedEncoder
from tools.factory.evaluation.subject import rgb
from tools.lib.paths import RECIPES

Entry = str | dict[str, str]  # of calibration.yaml: a pattern, a label of weather.csv, a condition


def calibrate_sets(folder: Path, data: Path, *, most: int, cache: Path, write: bool) -> str:
    """Every shipped label set of a bundle, group by group; what was learned, as lines.

    Args:
        folder: the bundle. Only `write` changes it.
        data: the unpacked distill pack.
        most: pictures a label.
        cache: folder of kept embeddings.
    """
    import yaml

    bundle = load_bundle(folder)
    shows = yaml.safe_load((RECIPES / "calibration.yaml").read_text(encoding="utf-8"))
    bank = TextBank.from_bundle(bundle)

    files: dict[str, bytes] = {}
    lines = []
    for name in sorted(set(bundle.label_sets()) & set(shows)):
        # The uncalibrated set, so that calibrating twice changes nothing.
        source = RECIPES / "labels" / f"{name}.yaml"
        label_set = parse_label_set(source.read_text(encoding="utf-8"), str(source))
        labels = compile_labels(label_set, bundle, bank)

        groups: dict[str, Calibration] = {}
        for group, entries in shows[name].items():
            own = _calibrate_group(bundle, labels, group, entries, data, most=most, cache=cache)
            groups[group] = own
            lines.append(f"{name} / {group}: {own.summary}")

        comment = f"{source.name} calibrated for {bundle.manifest.id}"
        text = to_yaml(with_groups(label_set, groups), f"{comment}: python -m tools.calibrate sets")
        files[f"labels/{name}.yaml"] = text.encode()

    if write:
        update_bundle(bundle, files, {})
        lines.append(f"{folder}: {', '.join(files)} written")
    return "\n".join(lines)


def _calibrate_group(
    bundle: Bundle,
    labels: CompiledLabels,
    group: str,
    entries: dict[str, list[Entry]],
    data: Path,
    *,
    most: int,
    cache: Path,
) -> Calibration:
    embeddings = []
    truth = []
    listed = tqdm(entries.items(), desc=group, unit="label", leave=False)
    with CachedEncoder(bundle, cache) as encode:
        for label, sources in listed:
            for entry in sources:
                pictures = pictures_of_entry(entry, data, max(1, most // len(sources)))
                embeddings += [encode(picture) for picture in pictures]
                truth += [label] * len(pictures)
    return fit_group(labels, group, np.stack(embeddings), truth, bundle.manifest.threshold)


def pictures_of_entry(entry: Entry, data: Path, most: int) -> list[NDArray[np.uint8]]:
    """The pictures (BGR) one entry stands for, at most so many, spread evenly over its files."""
    files = files_of_entry(entry, data)
    if not files:
        raise NoInputError(
            f"{data}: no pictures for {entry} of calibration.yaml",
            "is this the unpacked distill pack?",
        )
    rows = np.linspace(0, len(files) - 1, min(most, len(files))).round().astype(int)
    chosen = [files[row] for row in rows]
    if isinstance(entry, dict) and "condition" in entry:
        return condition_pictures(chosen, entry["condition"])
    return [read_picture(file) for file in chosen]


def files_of_entry(entry: Entry, data: Path) -> list[Path]:
    if isinstance(entry, dict) and "weather" in entry:
        with (RECIPES / "weather.csv").open(newline="", encoding="utf-8") as table:
            rows = list(csv.DictReader(table))
        return [data / row["file"] for row in rows if row["label"] == entry["weather"]]

    pattern = entry if isinstance(entry, str) else entry["of"]
    return sorted(path for path in data.glob(pattern) if path.suffix.lower() in SUFFIXES)


def condition_pictures(files: Sequence[Path], name: str) -> list[NDArray[np.uint8]]:
    """Pictures under a synthetic condition, BGR.

    The strength is drawn by the picture's place in the list, so that a second call draws the same.
    """
    if name not in conditions.CONDITIONS:
        names = ", ".join(conditions.CONDITIONS)
        raise DataError(f"calibration: no condition '{name}'", f"there are {names}")
    apply = conditions.CONDITIONS[name]

    pictures = []
    for number, file in enumerate(files):
        rng = np.random.default_rng(number)
        picture = np.ascontiguousarray(rgb(read_picture(file)))
        changed = apply(picture, rng.uniform(0.4, 1.0), rng)
        pictures.append(np.ascontiguousarray(changed[..., ::-1]))
    return pictures
