"""From words to embeddings: a label set is looked up in the text bank once, at start and at reload.

``load_labels`` is the whole way, ``compile_labels`` its last step. The result, ``CompiledLabels``,
is all that scoring needs; the bank can be freed.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from edge_runtime.errors import ConfigError
from edge_runtime.model.labels.label_set import LabelSet, LabelSpec, load_label_set
from edge_runtime.model.labels.phrase_rows import PhraseRows, rows_path
from edge_runtime.model.labels.text_bank import TextBank
from edge_runtime.system.digest import sha256_hex

if TYPE_CHECKING:
    from edge_runtime.model.bundle import Bundle


@dataclass(frozen=True, slots=True)
class CompiledLabels:
    """A label set as embeddings. Labels are sorted by group.

    Attributes:
        names: One a label.
        background: Shape (labels,); true for labels that compete but are never reported.
        thresholds: Shape (labels,); the score from which a label may be on.
        groups: Name and rows of each group; one slice follows the other.
        matrix: float32, shape (labels + background prompts, dim), unit-norm rows.
        biases: Shape (labels,), added to the logits.
        scales: One a group: the bundle's logit scale, divided by the group's temperature.
        id: sha256 over everything that can change a score.
    """

    names: tuple[str, ...]
    background: NDArray[np.bool_]
    thresholds: NDArray[np.float32]
    groups: tuple[tuple[str, slice], ...]
    matrix: NDArray[np.float32]
    biases: NDArray[np.float32]
    scales: tuple[float, ...]
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

    Rows of ``my.embeddings`` beside ``my.yaml`` are used where that file exists.
    Raises NoInputError for a set that does not exist, ConfigError for one that is wrong.
    """
    label_set = load_label_set(name_or_path, bundle)
    bank = with_built_rows(TextBank.from_bundle(bundle), name_or_path, bundle)

    try:
        return compile_labels(label_set, bundle, bank)
    except ConfigError as error:
        raise error.within(name_or_path) from error


def with_built_rows(bank: TextBank, name_or_path: str, bundle: Bundle) -> TextBank:
    """The bank, extended by what ``edge-label labels build`` made for this label set, if anything.

    Raises ConfigError for rows of another text space or dimension.
    """
    if name_or_path in bundle.label_sets():
        return bank

    path = rows_path(Path(name_or_path))
    built = PhraseRows.read(path)
    if built is None:
        return bank

    text_space = bundle.manifest.text_space
    if built.text_space != text_space or built.rows.shape[1] != bundle.manifest.dim:
        raise ConfigError(
            f"{path}: made for text space {built.text_space}, the bundle uses {text_space}",
            f"run: edge-label labels build {name_or_path}",
        )
    return bank.extended(built)


def compile_labels(label_set: LabelSet, bundle: Bundle, bank: TextBank) -> CompiledLabels:
    """Look every prompt up in the bank. A label's row is the mean of its prompts' rows, normalised.

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
    biases = np.array([label.bias for label in labels], np.float32)
    thresholds = np.array([_threshold(label, manifest.threshold) for label in labels], np.float32)
    scales = tuple(
        manifest.logit_scale / label_set.temperatures.get(group, 1.0) for group, _ in groups
    )

    # The order of these parts and their encoding are the id: another order would rename every set.
    words = json.dumps([[[label.name, label.group] for label in labels], scales]).encode()
    digest = sha256_hex(
        matrix.tobytes(),
        background.tobytes(),
        thresholds.tobytes(),
        biases.tobytes(),
        words,
    )
    return CompiledLabels(
        names=names,
        background=background,
        thresholds=thresholds,
        groups=groups,
        matrix=matrix,
        biases=biases,
        scales=scales,
        id=f"sha256:{digest}",
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
    raise ConfigError(
        f"'{phrase}' is not in the bundle's text bank",
        f"{hint}. For free text run: edge-label labels build "
        "(needs pip install 'edge-label[text]')",
    )
