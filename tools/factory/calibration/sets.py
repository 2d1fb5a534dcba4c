"""The label sets that ship with a bundle, calibrated from the pictures that calibration.yaml
names."""

from __future__ import annotations

import argparse
import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from edge_runtime.camera.pictures import read_picture
from edge_runtime.errors import DataError, NoInputError
from edge_runtime.model.bundle import load_bundle
from edge_runtime.model.labels import TextBank, compile_labels, parse_label_set
from tools.factory.bundling.files import update_bundle
from tools.factory.calibration.groups import Calibration, fit_group, with_groups
from tools.factory.calibration.label_file import to_yaml
from tools.factory.data import conditions
from tools.factory.data.samples import SUFFIXES
from tools.factory.evaluation.embedding_cache import CachedEncoder
from tools.factory.evaluation.subject import rgb
from tools.lib.paths import RECIPES


def condition_pictures(files: Sequence[Path], name: str) -> list[NDArray[np.uint8]]:
    """Pictures under a synthetic condition, BGR; the strength is drawn by the picture's place in
    the list."""
    if name not in conditions.CONDITIONS:
        raise DataError(
            f"calibration: no condition '{name}'; there are {', '.join(conditions.CONDITIONS)}"
        )
    made = []
    for i, file in enumerate(files):
        rng = np.random.default_rng(i)
        picture = np.ascontiguousarray(rgb(read_picture(file)))
        made.append(
            np.ascontiguousarray(
                conditions.CONDITIONS[name](picture, rng.uniform(0.4, 1.0), rng)[..., ::-1]
            )
        )
    return made


def shown(entry: str | dict[str, str], data: Path, most: int) -> list[NDArray[np.uint8]]:
    """The pictures (BGR) one entry of calibration.yaml stands for, at most so many, spread
    evenly."""
    if isinstance(entry, str):
        files = sorted(p for p in data.glob(entry) if p.suffix.lower() in SUFFIXES)
    elif "weather" in entry:
        with (RECIPES / "weather.csv").open(newline="", encoding="utf-8") as table:
            files = [
                data / row["file"]
                for row in csv.DictReader(table)
                if row["label"] == entry["weather"]
            ]
    else:
        files = sorted(p for p in data.glob(entry["of"]) if p.suffix.lower() in SUFFIXES)
    if not files:
        raise NoInputError(
            f"{data}: no pictures for {entry} of calibration.yaml; is this the unpacked distill pack?"
        )
    files = [
        files[i] for i in np.linspace(0, len(files) - 1, min(most, len(files))).round().astype(int)
    ]
    if isinstance(entry, dict) and "condition" in entry:
        return condition_pictures(files, entry["condition"])
    return [read_picture(file) for file in files]


def calibrate_sets(options: argparse.Namespace) -> str:
    """Every shipped label set, group by group, from the pictures calibration.yaml names."""
    import yaml

    bundle = load_bundle(options.bundle)
    shows = yaml.safe_load((RECIPES / "calibration.yaml").read_text(encoding="utf-8"))
    bank = TextBank.from_bundle(bundle)
    written: dict[str, bytes] = {}
    lines = []
    for name in sorted(set(bundle.label_sets()) & set(shows)):
        # uncalibrated, so that calibrating twice changes nothing
        source = RECIPES / "labels" / f"{name}.yaml"
        label_set = parse_label_set(source.read_text(encoding="utf-8"), str(source))
        labels = compile_labels(label_set, bundle, bank)
        groups: dict[str, Calibration] = {}
        for group, entries in shows[name].items():
            with CachedEncoder(bundle, options.cache) as encode:
                pictures = []
                truth = []
                for label, listed in tqdm(
                    entries.items(), desc=f"{name}: {group}", unit="label", leave=False
                ):
                    for entry in listed:
                        found = shown(entry, options.data, max(1, options.most // len(listed)))
                        pictures += [encode(picture) for picture in found]
                        truth += [label] * len(found)
            groups[group] = fit_group(
                labels, group, np.stack(pictures), truth, bundle.manifest.threshold
            )
            lines.append(f"{name} / {group}: {groups[group].told}")
        calibrated = with_groups(label_set, groups)
        comment = (
            f"{source.name} calibrated for {bundle.manifest.id}: python -m tools.calibrate sets"
        )
        written[f"labels/{name}.yaml"] = to_yaml(calibrated, comment).encode()
    if options.write:
        update_bundle(bundle, written, {})
        lines.append(f"{options.bundle}: {', '.join(written)} written")
    return "\n".join(lines)
