"""A label set calibrated for one camera, from its pictures."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from edge_runtime.errors import DataError, NoInputError, UsageError
from edge_runtime.files import write_atomically
from edge_runtime.model.bundle import Bundle, find_bundle, load_bundle
from edge_runtime.model.labels import (
    CompiledLabels,
    LabelSet,
    TextBank,
    compile_labels,
    load_label_set,
    with_built_rows,
)
from edge_runtime.model.phrase_rows import PhraseRows, rows_path
from tools.factory.calibration.groups import (
    Calibration,
    fit_group,
    unlabelled_biases,
    with_biases,
    with_groups,
)
from tools.factory.calibration.label_file import to_yaml
from tools.factory.calibration.tasks import embed
from tools.factory.data.samples import SUFFIXES
from tools.factory.evaluation.embedding_cache import CachedEncoder
from tools.factory.evaluation.subject import PictureEncoder
from tools.factory.teachers.teacher import unit

SHOWN_BY = "pictures of "


def pictures_of(folder: Path) -> list[Path]:
    """Every picture in and below a folder, sorted. Raises NoInputError."""
    if not folder.is_dir():
        raise NoInputError(f"{folder}: no such folder of pictures")
    return sorted(p for p in folder.rglob("*") if p.suffix.lower() in SUFFIXES)


def labelled_pictures(folder: Path, labels: CompiledLabels) -> list[tuple[Path, str]]:
    """(picture, label) of one folder a label; ``none`` for none of them. Raises DataError for
    another name."""
    found = []
    for own in sorted(p for p in folder.iterdir() if p.is_dir()) if folder.is_dir() else []:
        if own.name != "none" and own.name not in labels.names:
            raise DataError(
                f"{own}: '{own.name}' is no label of the set; it has {', '.join(labels.names[:8])} ..."
            )
        found += [(picture, own.name) for picture in pictures_of(own)]
    if not found:
        raise NoInputError(f"{folder}: no folders with pictures; expected one a label")
    return found


def calibrate_labels(options: argparse.Namespace) -> str:
    """my.yaml and pictures of one camera -> my.calibrated.yaml."""
    if not (options.pictures or options.labelled):
        raise UsageError("nothing to learn from: give --pictures, --labelled, or both")
    if options.prototypes and not options.pictures:
        raise UsageError(
            "--prototypes needs --pictures too: what counts is what a label adds to the usual pictures"
        )
    bundle = load_bundle(find_bundle(options.bundle))
    label_set = load_label_set(options.labels, bundle)
    bank = with_built_rows(TextBank.from_bundle(bundle), options.labels, bundle)
    lines = []
    usual = pictures_of(options.pictures) if options.pictures else []
    shown_rows: PhraseRows | None = None
    with CachedEncoder(bundle, options.cache) as encode:
        if options.prototypes:
            label_set, shown_rows = with_prototypes(
                label_set, bundle, bank, encode, options.prototypes, usual
            )
            bank = bank.extended(shown_rows)
            lines.append(
                f"labels shown by pictures: {', '.join(p.removeprefix(SHOWN_BY) for p in shown_rows.phrases)}"
            )
        if usual:
            labels = compile_labels(label_set, bundle, bank)
            biases = unlabelled_biases(labels, embed(encode, usual, str(options.pictures)))
            label_set = with_biases(label_set, biases)
            least = min(biases.values())
            most = max(biases.values())
            lines.append(f"{len(usual)} pictures without labels: biases {least} to {most}")
        if options.labelled:
            labels = compile_labels(label_set, bundle, bank)
            groups = fit_labelled_groups(
                encode, labels, options.labelled, bundle.manifest.threshold
            )
            lines += [f"{name}: {learned.told}" for name, learned in groups.items()]
            label_set = with_groups(label_set, groups)
    out = options.output or Path(Path(options.labels).stem + ".calibrated.yaml")
    built = (
        None
        if options.labels in bundle.label_sets()
        else PhraseRows.read(rows_path(Path(options.labels)))
    )
    write_atomically(out, to_yaml(label_set, f"calibrated from {options.labels}").encode())
    if joined := join(built, shown_rows):
        joined.write(rows_path(out))
    return "\n".join([*lines, f"{out}: written"])


def fit_labelled_groups(
    encode: PictureEncoder, labels: CompiledLabels, folder: Path, least: float
) -> dict[str, Calibration]:
    """Every group that has pictures of two or more of its labels. Raises DataError when none
    has."""
    pairs = labelled_pictures(folder, labels)
    pictures = embed(encode, [file for file, _ in pairs], str(folder))
    names = [name for _, name in pairs]
    groups = {}
    for group, at in labels.groups:
        rows = [i for i, name in enumerate(names) if name == "none" or name in labels.names[at]]
        if len({names[i] for i in rows} - {"none"}) >= 2:
            groups[group] = fit_group(
                labels, group, pictures[rows], [names[i] for i in rows], least
            )
    if not groups:
        raise DataError(f"{folder}: no group has pictures of two of its labels; add another folder")
    return groups


def with_prototypes(
    label_set: LabelSet,
    bundle: Bundle,
    bank: TextBank,
    encode: PictureEncoder,
    folder: Path,
    usual: Sequence[Path],
) -> tuple[LabelSet, PhraseRows]:
    """Labels that a few pictures show as well as their words do: half pictures, half prompts.

    Pictures and texts lie apart in CLIP's space (the modality gap), so a prototype is moved: what
    its pictures have beyond the camera's usual ones, at the length that words have beyond the mean
    of all words.
    """
    folders = sorted(p for p in folder.iterdir() if p.is_dir()) if folder.is_dir() else []
    shown_by = {own.name: pictures_of(own) for own in folders}
    names = {label.name for label in label_set.labels}
    if not shown_by or not set(shown_by) <= names:
        raise DataError(
            f"{folder}: expected one folder a label of {', '.join(sorted(names)[:8])} ..., with pictures"
        )
    middle = embed(encode, usual, "usual pictures").mean(axis=0)
    words = bank.rows.astype(np.float32)
    length = float(np.linalg.norm(words - words.mean(axis=0), axis=1).mean())
    rows = []
    for name, files in shown_by.items():
        beyond = embed(encode, files, name).mean(axis=0) - middle
        rows.append(
            words.mean(axis=0) + beyond * (length / max(float(np.linalg.norm(beyond)), 1e-6))
        )
    labels = []
    for label in label_set.labels:
        prompts = label_set.prompts(label, bundle.manifest.templates)
        pictured = (SHOWN_BY + label.name,) * len(prompts) if label.name in shown_by else ()
        labels.append(replace(label, prompts=(*prompts, *pictured)) if pictured else label)
    phrases = tuple(SHOWN_BY + name for name in shown_by)
    space = bundle.manifest.text_space
    made = PhraseRows(
        phrases, unit(np.stack(rows)).astype(np.float16), "pictures", False, space, "", phrases
    )
    return replace(label_set, labels=tuple(labels)), made


def join(built: PhraseRows | None, shown_rows: PhraseRows | None) -> PhraseRows | None:
    """What a text encoder made and what pictures showed, as one file's rows."""
    if built is None or shown_rows is None:
        return built or shown_rows
    return replace(
        built,
        phrases=(*built.phrases, *shown_rows.phrases),
        rows=np.concatenate((built.rows, shown_rows.rows)),
        pictured=(*built.pictured, *shown_rows.pictured),
    )
