"""From words to embeddings: a label set is looked up in the text bank once, at start and at reload.

``load_labels`` is the whole way, ``compile_labels`` its last step. The result, ``CompiledLabels``,
is all that scoring needs; the bank can be freed.
"""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass, replace
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from edge_runtime.errors import ConfigError
from edge_runtime.model.labels.label_set import LabelSet, LabelSpec, load_label_set
from edge_runtime.model.labels.new_rows import with_new_rows
from edge_runtime.model.labels.phrase_rows import PhraseRows, rows_path
from edge_runtime.model.labels.taught import NONE, Teaching, still_holds
from edge_runtime.model.labels.text_bank import TextBank
from edge_runtime.system.digest import sha256_hex

if TYPE_CHECKING:
    from edge_runtime.model.bundle import Bundle


log = logging.getLogger("edge_label")


@dataclass(frozen=True, slots=True)
class Rivals:
    """What competes with the labels of a group and is never reported.

    Attributes:
        rows: Of the matrix: the background prompts, then "none of these" if pictures taught it.
        scales: Of their cosines, one a row.
        biases: Added to their logits, one a row.
    """

    rows: tuple[int, ...]
    scales: tuple[float, ...]
    biases: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class CompiledLabels:
    """A label set as embeddings. Labels are sorted by group.

    Attributes:
        names: One a label.
        background: Shape (labels,); true for labels that compete but are never reported.
        in_any_view: Shape (labels,); true for labels that may be on in a strange view too: those
            that say so, and those that pictures taught.
        thresholds: Shape (labels,); the score from which a label may be on.
        groups: Name and rows of each group; one slice follows the other.
        matrix: float32, shape (labels + background prompts + taught rows of "none of these", dim);
            rows of unit norm, unless pictures taught them.
        biases: Shape (labels,), added to the logits.
        scales: One a group: the bundle's logit scale, divided by the group's temperature.
        rivals: One a group.
        id: sha256 over everything that can change a score.
    """

    names: tuple[str, ...]
    background: NDArray[np.bool_]
    in_any_view: NDArray[np.bool_]
    thresholds: NDArray[np.float32]
    groups: tuple[tuple[str, slice], ...]
    matrix: NDArray[np.float32]
    biases: NDArray[np.float32]
    scales: tuple[float, ...]
    rivals: tuple[Rivals, ...]
    id: str

    @property
    def reported(self) -> tuple[str, ...]:
        """Names of the labels that a record can hold."""
        return tuple(
            name
            for name, background in zip(self.names, self.background.tolist(), strict=True)
            if not background
        )


def load_labels(name_or_path: str, bundle: Bundle) -> CompiledLabels:
    """A label set by path or by the name of one in the bundle, compiled.

    Rows of ``my.embeddings`` beside ``my.yaml`` are used where that file exists. Rows that are
    still missing are made now and kept (``new_rows.py``).
    Raises NoInputError for a set that does not exist, ConfigError for one that is wrong.
    """
    label_set = load_label_set(name_or_path, bundle)
    built = built_rows(name_or_path, bundle)
    bank = TextBank.from_bundle(bundle)
    teaching = None

    if built:
        bank = bank.extended(built)
    if built and built.teaching:
        teaching, lines = still_holds(built.teaching, label_set, bundle.manifest)
        for line in lines:
            log.warning("%s: %s; run: edge-label labels learn", name_or_path, line)
    bank = with_new_rows(bank, label_set, name_or_path, bundle)

    try:
        return compile_labels(label_set, bundle, bank, teaching)
    except ConfigError as error:
        raise error.within(name_or_path) from error


def built_rows(name_or_path: str, bundle: Bundle) -> PhraseRows | None:
    """What ``edge-label labels build`` and ``learn`` made for this label set, None for nothing.

    Raises ConfigError for rows of another text space or dimension.
    """
    if name_or_path in bundle.label_sets():
        return None

    path = rows_path(Path(name_or_path))
    built = PhraseRows.read(path)
    if built is None:
        return None

    text_space = bundle.manifest.text_space
    if built.text_space != text_space or built.rows.shape[1] != bundle.manifest.dim:
        raise ConfigError(
            f"{path}: made for text space {built.text_space}, the bundle uses {text_space}",
            f"run: edge-label labels build {name_or_path}",
        )
    return built


def with_built_rows(bank: TextBank, name_or_path: str, bundle: Bundle) -> TextBank:
    """The bank, extended by what ``edge-label labels build`` made for this label set, if anything.

    Raises ConfigError for rows of another text space or dimension.
    """
    built = built_rows(name_or_path, bundle)
    return bank.extended(built) if built else bank


def compile_labels(
    label_set: LabelSet, bundle: Bundle, bank: TextBank, teaching: Teaching | None = None
) -> CompiledLabels:
    """Look every prompt up in the bank. A label's row is the mean of its prompts' rows, normalised.

    What ``teaching`` holds of a group takes the place of its words; it must fit the label set
    (`still_holds`).
    Raises ConfigError for the first phrase that the bank lacks, with the nearest names that it has.
    """
    manifest = bundle.manifest
    labels = sorted(label_set.labels, key=attrgetter("group"))  # stable: a group keeps its order
    groups = _group_slices(labels)

    prompts = [label_set.prompts(label, manifest.templates) for label in labels]
    background_prompts = [(phrase,) for phrase in label_set.background]
    matrix = np.stack([_embed(phrases, bank) for phrases in (*prompts, *background_prompts)])

    names = tuple(label.name for label in labels)
    background = np.array([label.background for label in labels])
    in_any_view = _in_any_view(labels, teaching)
    biases = np.array([label.bias for label in labels], np.float32)
    thresholds = np.array([_threshold(label, manifest.threshold) for label in labels], np.float32)
    scales = tuple(
        manifest.logit_scale / label_set.temperatures.get(group, 1.0) for group, _ in groups
    )

    prompt_rows = tuple(range(len(labels), len(matrix)))
    rivals = tuple(_prompts_as_rivals(prompt_rows, scale) for scale in scales)
    words = CompiledLabels(
        names, background, in_any_view, thresholds, groups, matrix, biases, scales, rivals, id=""
    )
    if teaching is None:
        return replace(words, id=_id(words, b""))
    taught = _taught(words, labels, teaching)
    rivals_taught = [[one.rows, one.scales, one.biases] for one in taught.rivals]
    return replace(taught, id=_id(taught, json.dumps(rivals_taught).encode()))


def _prompts_as_rivals(rows: tuple[int, ...], scale: float) -> Rivals:
    return Rivals(rows, (scale,) * len(rows), (0.0,) * len(rows))


def _id(labels: CompiledLabels, taught: bytes) -> str:
    # The order of these parts and their encoding are the id: another order would rename every set.
    group_of = [group for group, rows in labels.groups for _ in range(rows.start, rows.stop)]
    words = [[list(pair) for pair in zip(labels.names, group_of, strict=True)], labels.scales]

    digest = sha256_hex(
        labels.matrix.tobytes(),
        labels.background.tobytes(),
        labels.thresholds.tobytes(),
        labels.biases.tobytes(),
        json.dumps(words).encode(),
        taught,
        labels.in_any_view.tobytes() if labels.in_any_view.any() else b"",
    )
    return f"sha256:{digest}"


def _taught(words: CompiledLabels, labels: list[LabelSpec], teaching: Teaching) -> CompiledLabels:
    """With what pictures taught in the place of the words."""
    matrix = words.matrix.copy()
    biases = words.biases.copy()
    thresholds = words.thresholds.copy()
    rivals = list(words.rivals)
    none_rows: list[NDArray[np.float32]] = []

    for place, (name, rows) in enumerate(words.groups):
        group = teaching.group(name)
        if group is None:
            continue

        row_of = group.row_of
        for row in range(rows.start, rows.stop):
            if labels[row].threshold is None:
                thresholds[row] = group.threshold
            taught = row_of.get(words.names[row])
            matrix[row] = group.factor * matrix[row] if taught is None else group.rows[taught]
            biases[row] = group.factor * biases[row] if taught is None else group.biases[taught]

        scale = words.scales[place]
        rivals[place] = _prompts_as_rivals(rivals[place].rows, scale * group.factor)
        none = row_of.get(NONE)
        if none is not None:
            rivals[place] = Rivals(
                (*rivals[place].rows, len(matrix) + len(none_rows)),
                (*rivals[place].scales, scale),
                (*rivals[place].biases, float(group.biases[none])),
            )
            none_rows.append(group.rows[none])

    return replace(
        words,
        matrix=np.vstack([matrix, *none_rows]),
        biases=biases,
        thresholds=thresholds,
        rivals=tuple(rivals),
    )


def _group_slices(labels: list[LabelSpec]) -> tuple[tuple[str, slice], ...]:
    """Name and rows of each group, of labels that are sorted by group."""
    starts: dict[str, int] = {}
    for row, label in enumerate(labels):
        starts.setdefault(label.group, row)

    ends = [*starts.values(), len(labels)][1:]
    return tuple(
        (group, slice(start, end)) for (group, start), end in zip(starts.items(), ends, strict=True)
    )


def _in_any_view(labels: list[LabelSpec], teaching: Teaching | None) -> NDArray[np.bool_]:
    pictured = teaching.pictures if teaching else {}
    return np.array([label.any_view or label.name in pictured for label in labels])


def _threshold(label: LabelSpec, default: float) -> float:
    return default if label.threshold is None else label.threshold


def _embed(prompts: tuple[str, ...], bank: TextBank) -> NDArray[np.float32]:
    rows = np.asarray([bank.rows[_row(phrase, bank)] for phrase in prompts], np.float32)
    mean = rows.mean(axis=0)
    return np.asarray(mean / np.linalg.norm(mean), np.float32)


def _row(phrase: str, bank: TextBank) -> int:
    row = bank.find(phrase)
    if row is not None:
        return row

    near = bank.nearest_names(phrase)
    hint = "edge-label labels search lists what it has"
    if near:
        hint = f"near it: {', '.join(near)}"
    raise ConfigError(f"'{phrase}' is not in the bundle's text bank", hint)
