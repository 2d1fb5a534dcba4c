"""The label sets that ship with a bundle, calibrated from the pictures of calibration.yaml."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from edge_runtime.model.bundle import load_bundle
from edge_runtime.model.labels.compiled import CompiledLabels, compile_labels
from edge_runtime.model.labels.label_set import parse_label_set
from edge_runtime.model.labels.scorer import Scorer
from edge_runtime.model.labels.text_bank import TextBank
from tools.factory.bundling.files import update_bundle
from tools.factory.calibration.fits import balanced
from tools.factory.calibration.groups import Calibration, fit_group, with_groups
from tools.factory.calibration.label_file import to_yaml
from tools.factory.data.entries import (
    ASK,
    CALIBRATE,
    Entry,
    files_of_entry,
    pictures_of_files,
)
from tools.factory.evaluation.embedding_cache import CachedEncoder
from tools.lib import markdown
from tools.lib.paths import RECIPES

Pictures = tuple[NDArray[np.float32], list[str]]  # embeddings (N, dim), the label each shows


def calibrate_sets(folder: Path, data: Path, *, most: int, cache: Path, write: bool) -> str:
    """Every shipped label set of a bundle, group by group; what was learned, and how good it is.

    Args:
        folder: the bundle. Only `write` changes it.
        data: distill.zip and second.zip, unpacked side by side.
        most: pictures a label.
        cache: folder of kept embeddings.
    """
    import yaml

    bundle = load_bundle(folder)
    shows = yaml.safe_load((RECIPES / "calibration.yaml").read_text(encoding="utf-8"))
    bank = TextBank.from_bundle(bundle)

    files: dict[str, bytes] = {}
    lines = []
    with CachedEncoder(bundle, cache) as encode:
        for name in sorted(set(bundle.label_sets()) & set(shows)):
            # The uncalibrated set, so that calibrating twice changes nothing.
            source = RECIPES / "labels" / f"{name}.yaml"
            label_set = parse_label_set(source.read_text(encoding="utf-8"), str(source))
            labels = compile_labels(label_set, bundle, bank)

            groups: dict[str, Calibration] = {}
            asked: dict[str, Pictures] = {}
            for group, entries in shows[name].items():
                pictures, truth = _pictures(encode, entries, data, most, CALIBRATE)
                own = fit_group(labels, group, pictures, truth, bundle.manifest.threshold)
                groups[group] = own
                asked[group] = _pictures(encode, entries, data, most, ASK)
                lines.append(f"{name} / {group}: {own.summary}")

            calibrated = with_groups(label_set, groups)
            compiled = compile_labels(calibrated, bundle, bank)
            lines += ["", judged(compiled, name, asked), ""]
            comment = f"{source.name} calibrated for {bundle.manifest.id}"
            text = to_yaml(calibrated, f"{comment}: python -m tools.calibrate sets")
            files[f"labels/{name}.yaml"] = text.encode()

    if write:
        update_bundle(bundle, files, {})
        lines.append(f"{folder}: {', '.join(files)} written")
    return "\n".join(lines)


def _pictures(
    encode: CachedEncoder,
    entries: dict[str, list[Entry]],
    data: Path,
    most: int,
    parts: frozenset[int],
) -> Pictures:
    embeddings = []
    truth = []
    for label, sources in tqdm(entries.items(), unit="label", leave=False):
        for entry in sources:
            files = files_of_entry(entry, data, max(1, most // len(sources)), parts)
            embeddings += [encode(picture) for picture in pictures_of_files(entry, files)]
            truth += [label] * len(files)
    return np.stack(embeddings), truth


def judged(labels: CompiledLabels, name: str, asked: dict[str, Pictures]) -> str:
    """A table: how often each label is on, and right, on pictures that taught and fitted nothing.

    A label is on as the runtime says of one frame. Its share of right answers depends on how many
    pictures show other labels; here every label, and `none`, counts as if it had the same number.
    """
    rows = []
    for group, (pictures, truth) in asked.items():
        votes = np.stack([scores.votes for scores in map(Scorer(labels), pictures) if scores])
        at = dict(labels.groups)[group]
        weights = balanced(truth)
        for column in range(at.start, at.stop):
            if labels.background[column] or labels.names[column] not in truth:
                continue
            shown = np.array([label == labels.names[column] for label in truth])
            on = votes[:, column]
            share = (weights * shown)[on].sum() / max(weights[on].sum(), 1e-9)
            right = f"{share:.0%}" if on.any() else "-"
            found = f"{on[shown].mean():.0%}"
            counts = [str(shown.sum()), found, str(on.sum()), right]
            rows.append([name, group, labels.names[column], *counts])
    head = ["set", "group", "label", "pictures", "found", "on", "of these right"]
    return markdown.table(head, rows, "lllr")
