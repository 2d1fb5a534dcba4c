"""``edge-label labels``: list, search, check and build. All answers are text for a person.

This is work on a label set before a camera uses it; nothing here runs in the daemon. What is found
out about a set is in ``label_findings.py``, what is built for it in ``label_rows.py``.
"""

from __future__ import annotations

from itertools import groupby
from operator import attrgetter

import numpy as np

from edge_runtime.commands.label_findings import (
    MOST_SHOWN,
    centred,
    describe_pairs,
    describe_rows,
    groups_without_background,
    rest,
)
from edge_runtime.commands.label_rows import RowBuilder
from edge_runtime.commands.taught_findings import describe_teaching
from edge_runtime.errors import ConfigError, UsageError
from edge_runtime.model.bundle import Bundle, find_bundle, load_bundle
from edge_runtime.model.labels.compiled import built_rows, with_built_rows
from edge_runtime.model.labels.label_set import LabelSpec, load_label_set
from edge_runtime.model.labels.new_rows import missing_phrases, row_files, with_new_rows
from edge_runtime.model.labels.phrases import bare, normalise
from edge_runtime.model.labels.text_bank import TextBank

_NAMES_OF_A_SET = 6


def list_labels(name_or_path: str | None, bundle_path: str | None) -> str:
    """The label sets of the bundle, or the labels of one set, by group."""
    bundle = load_bundle(find_bundle(bundle_path))
    if name_or_path is None:
        return _list_sets(bundle)

    label_set = load_label_set(name_or_path, bundle)
    by_group = sorted(label_set.labels, key=attrgetter("group"))
    lines = []
    for group, labels in groupby(by_group, key=attrgetter("group")):
        names = ", ".join(_title(label) for label in labels)
        lines.append(f"{group}: {names}")

    if label_set.background:
        lines.append(f"background: {', '.join(label_set.background)}")
    return "\n".join(lines)


def _list_sets(bundle: Bundle) -> str:
    lines = []
    for name in bundle.label_sets():
        labels = load_label_set(name, bundle).labels
        first_names = ", ".join(label.name for label in labels[:_NAMES_OF_A_SET])
        more = ", ..." if len(labels) > _NAMES_OF_A_SET else ""
        lines.append(f"{name:<12}{len(labels):>4} labels: {first_names}{more}")

    bank = TextBank.from_bundle(bundle)
    approximate = len(bank.approximate)
    count = f"{len(bank.names):>4} phrases, {approximate} of them approximate"
    taught = f", {len(bank.taught)} taught by pictures" if bank.taught else ""
    lines.append(f"text bank   {count}{taught}")
    return "\n".join(lines)


def _title(label: LabelSpec) -> str:
    if label.background:
        return f"{label.name} (background)"
    return f"{label.name} (any view)" if label.any_view else label.name


def search(words: str, bundle_path: str | None, *, count: int = 10) -> str:
    """Names of the text bank that contain the words, then those that mean nearly the same."""
    bundle = load_bundle(find_bundle(bundle_path))
    bank = TextBank.from_bundle(bundle)

    lines = _by_spelling(words, bank, count)
    row = bank.find(words)
    if row is not None:
        alias = bank.alias(words)
        if alias:
            lines.insert(0, f"'{words}' is '{alias}'  ({bank.maker(row)})")
        lines += _by_meaning(row, bank, count)
    if lines:
        return "\n".join(lines)

    near = bank.nearest_names(words, count)
    hint = f"near it: {', '.join(near)}; " if near else ""
    return (
        f"'{words}' is not in the text bank; {hint}"
        "a label set may still use it: its embedding is then estimated"
    )


def _by_spelling(words: str, bank: TextBank, count: int) -> list[str]:
    """Names that contain the words, shortest first, and who made their rows."""
    key = bare(normalise(words))
    names = [name for name in bank.names if key and key in normalise(name)]
    names.sort(key=lambda name: (len(name), name))

    lines = []
    for name in names[:count]:
        row = bank.find(name)
        if row is not None:
            lines.append(f"{name}  ({bank.maker(row)})")
    return lines


def _by_meaning(row: int, bank: TextBank, count: int) -> list[str]:
    """The names whose embeddings lie nearest to a row, with their cosines."""
    rows = centred(bank.rows.astype(np.float32), bank)
    cosines = rows @ rows[row]
    order = [i for i in np.argsort(-cosines, kind="stable") if i != row]

    lines = [f"means nearly '{bank.names[row]}':"]
    lines += [f"  {cosines[i]:.2f}  {bank.names[i]}" for i in order[:count]]
    return lines


def check(path: str, bundle_path: str | None) -> tuple[str, bool]:
    """(report, usable): where each embedding comes from, and which labels are too alike."""
    bundle = load_bundle(find_bundle(bundle_path))
    label_set = load_label_set(path, bundle)
    built = built_rows(path, bundle)
    bank = TextBank.from_bundle(bundle)
    if built:
        bank = bank.extended(built)
    reason = ""
    try:
        bank = with_new_rows(bank, label_set, path, bundle)
    except ConfigError as error:
        reason = str(error)

    labels = len(label_set.labels)
    lines = [f"{path}: {labels} labels, {len(label_set.background)} background prompts"]
    teaching = built.teaching if built else None
    groups = groups_without_background(label_set, teaching)
    if groups:
        lines.append(
            f"  no background: some label of group {', '.join(groups)} always wins, "
            "whatever the camera sees; add a background prompt, or pictures of none of them"
        )

    missing = missing_phrases(label_set, bundle, bank)
    if missing:
        lines += _describe_missing(missing, bank, reason)
    else:
        lines += describe_rows(label_set, bundle, bank)
        lines += [f"  rows kept in {file}" for file in row_files(path, bundle)]
        lines += describe_pairs(label_set, bundle, bank)
    if teaching:
        lines += describe_teaching(teaching, label_set, bundle)
    return "\n".join(lines), not missing


def _describe_missing(missing: list[str], bank: TextBank, reason: str) -> list[str]:
    lines = [f"not in the text bank: {len(missing)} phrases; {reason}"]
    for phrase in missing[:MOST_SHOWN]:
        near = ", ".join(bank.nearest_names(phrase))
        hint = f"near it: {near}" if near else "nothing is spelt like it"
        lines.append(f"  '{phrase}': {hint}")
    return [*lines, *rest(len(missing))]


def build(
    path: str, bundle_path: str | None, text_encoder: str | None, *, force: bool = False
) -> str:
    """Encode every phrase that the bank lacks, and write ``my.embeddings`` beside ``my.yaml``.

    Raises UsageError for a set that ships, ConfigError for a bad label set or an encoder of another
    text space, DataError when the encoder fails. The old file is then unchanged.
    """
    bundle = load_bundle(find_bundle(bundle_path))
    if path in bundle.label_sets():
        raise UsageError(
            f"{path} ships with the bundle and needs no build",
            "give the path of a YAML file of yours",
        )

    label_set = load_label_set(path, bundle)
    bank = TextBank.from_bundle(bundle)
    outcome = RowBuilder.of(path, bundle, bank).build(label_set, text_encoder, force=force)

    bank = with_built_rows(bank, path, bundle)
    findings = [
        *describe_rows(label_set, bundle, bank),
        *describe_pairs(label_set, bundle, bank),
    ]
    return "\n".join([outcome, *findings])
