"""A label set calibrated for one camera, from its pictures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from edge_runtime.errors import DataError, NoInputError, UsageError
from edge_runtime.model.bundle import Bundle, find_bundle, load_bundle
from edge_runtime.model.labels.compiled import CompiledLabels, compile_labels, with_built_rows
from edge_runtime.model.labels.label_set import LabelSet, load_label_set
from edge_runtime.model.labels.new_rows import with_new_rows
from edge_runtime.model.labels.phrase_rows import PhraseRows, rows_path
from edge_runtime.model.labels.text_bank import TextBank
from edge_runtime.system.files import write_atomically
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


# One step after another, each on what the one before it made of the label set.
def calibrate_labels(
    labels: str,
    bundle_name: str | None,
    *,
    pictures: Path | None,
    labelled: Path | None,
    prototypes: Path | None,
    output: Path | None,
    cache: Path,
) -> str:
    """Write my.calibrated.yaml, learned from pictures of one camera; what was learned, as lines.

    Args:
        labels: a label set: a YAML file, or the name of one that ships.
        bundle_name: a bundle, or None for the one edge-label would use.
        pictures: folder of what the camera usually sees, without labels.
        labelled: one folder of pictures a label.
        prototypes: one folder a label, of pictures that show it.
        output: file to write, NAME.calibrated.yaml if None.
        cache: folder of kept embeddings.
    """
    _check_sources(pictures, labelled, prototypes)
    bundle = load_bundle(find_bundle(bundle_name))
    label_set = load_label_set(labels, bundle)
    bank = with_built_rows(TextBank.from_bundle(bundle), labels, bundle)
    bank = with_new_rows(bank, label_set, labels, bundle)

    lines = []
    usual = pictures_of(pictures) if pictures else []
    shown_rows: PhraseRows | None = None
    with CachedEncoder(bundle, cache) as encode:
        if prototypes:
            label_set, shown_rows = with_prototypes(
                label_set, bundle, bank, encode, prototypes, usual
            )
            bank = bank.extended(shown_rows)
            names = ", ".join(phrase.removeprefix(SHOWN_BY) for phrase in shown_rows.phrases)
            lines.append(f"labels shown by pictures: {names}")
        if usual:
            compiled = compile_labels(label_set, bundle, bank)
            biases = unlabelled_biases(compiled, embed(encode, usual, str(pictures)))
            label_set = with_biases(label_set, biases)
            span = f"{min(biases.values())} to {max(biases.values())}"
            lines.append(f"{len(usual)} pictures without labels: biases {span}")
        if labelled:
            compiled = compile_labels(label_set, bundle, bank)
            groups = fit_labelled_groups(encode, compiled, labelled, bundle.manifest.threshold)
            label_set = with_groups(label_set, groups)
            lines += [f"{name}: {learned.summary}" for name, learned in groups.items()]

    shipped = labels in bundle.label_sets()
    target = output or Path(Path(labels).stem + ".calibrated.yaml")
    write_atomically(target, to_yaml(label_set, f"calibrated from {labels}").encode())
    built = None if shipped else PhraseRows.read(rows_path(Path(labels)))
    rows = join(built, shown_rows)
    if rows:
        rows.write(rows_path(target))
    return "\n".join([*lines, f"{target}: written"])


def _check_sources(pictures: Path | None, labelled: Path | None, prototypes: Path | None) -> None:
    if not (pictures or labelled):
        raise UsageError("nothing to learn from", "give --pictures, --labelled, or both")
    if prototypes and not pictures:
        raise UsageError(
            "--prototypes needs --pictures too: what counts is what a label adds to the usual ones"
        )


def pictures_of(folder: Path) -> list[Path]:
    """Every picture in and below a folder, sorted. Raises NoInputError."""
    if not folder.is_dir():
        raise NoInputError(f"{folder}: no such folder of pictures")
    return sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES)


def labelled_pictures(folder: Path, labels: CompiledLabels) -> list[tuple[Path, str]]:
    """(picture, label) of one folder a label; ``none`` for none of them.

    Raises DataError for a folder of another name, NoInputError without pictures.
    """
    pairs = []
    for own in _folders(folder):
        if own.name != "none" and own.name not in labels.names:
            names = ", ".join(labels.names[:8])
            raise DataError(f"{own}: '{own.name}' is no label of the set", f"it has {names} ...")
        pairs += [(picture, own.name) for picture in pictures_of(own)]
    if not pairs:
        raise NoInputError(f"{folder}: no folders with pictures", "expected one a label")
    return pairs


def _folders(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_dir()) if folder.is_dir() else []


def fit_labelled_groups(
    encode: PictureEncoder, labels: CompiledLabels, folder: Path, least: float
) -> dict[str, Calibration]:
    """Every group with pictures of two or more of its labels. Raises DataError when none has."""
    pairs = labelled_pictures(folder, labels)
    pictures = embed(encode, [file for file, _ in pairs], str(folder))
    names = [name for _, name in pairs]

    groups = {}
    for group, at in labels.groups:
        own = {"none", *labels.names[at]}
        rows = [row for row, name in enumerate(names) if name in own]
        shown = [names[row] for row in rows]
        if len(set(shown) - {"none"}) >= 2:
            groups[group] = fit_group(labels, group, pictures[rows], shown, least)
    if not groups:
        raise DataError(
            f"{folder}: no group has pictures of two of its labels", "add another folder"
        )
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

    Pictures and texts lie apart in CLIP's space (the modality gap). A prototype is therefore moved
    to where words lie: the mean of all words, plus what its pictures have beyond the camera's usual
    ones, at the length that words have beyond their mean.
    """
    shown_by = {own.name: pictures_of(own) for own in _folders(folder)}
    names = {label.name for label in label_set.labels}
    if not shown_by or not set(shown_by) <= names:
        some = ", ".join(sorted(names)[:8])
        raise DataError(f"{folder}: expected one folder a label of {some} ..., with pictures")

    usual_mean = embed(encode, usual, "usual pictures").mean(axis=0)
    words = bank.rows.astype(np.float32)
    word_mean = words.mean(axis=0)
    length = float(np.linalg.norm(words - word_mean, axis=1).mean())
    rows = []
    for name, files in shown_by.items():
        beyond = embed(encode, files, name).mean(axis=0) - usual_mean
        rows.append(word_mean + beyond * (length / max(float(np.linalg.norm(beyond)), 1e-6)))

    labels = []
    for label in label_set.labels:
        if label.name in shown_by:
            prompts = label_set.prompts(label, bundle.manifest.templates)
            pictured = (SHOWN_BY + label.name,) * len(prompts)
            label = replace(label, prompts=(*prompts, *pictured))
        labels.append(label)

    phrases = tuple(SHOWN_BY + name for name in shown_by)
    vectors = unit(np.stack(rows)).astype(np.float16)
    space = bundle.manifest.text_space
    pictures = PhraseRows(phrases, vectors, "pictures", False, space, "", phrases)
    return replace(label_set, labels=tuple(labels)), pictures


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
