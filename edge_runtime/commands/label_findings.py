"""What a person should know about a label set before a camera uses it.

That is where its rows come from, and which of its labels are too alike.
``labels check`` and ``labels build`` print these lines.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edge_runtime.model.bundle import Bundle
from edge_runtime.model.labels.compiled import CompiledLabels, compile_labels
from edge_runtime.model.labels.label_set import LabelSet
from edge_runtime.model.labels.phrases import bare, normalise
from edge_runtime.model.labels.taught import NONE, Teaching
from edge_runtime.model.labels.text_bank import TextBank

MOST_SHOWN = 20  # lines of one kind; a set may have thousands of labels

# Cosines between label embeddings after the bank's mean is taken off both (docs/label-sets.md).
SAME = 0.9
CLOSE = 0.7

_EXACT = "bank, exact"
_OF_BANK = (_EXACT, "bank, approximate", "bank, taught")
_BLOCK = 512  # rows compared at a time: 512 x 10,000 cosines are 20 MB

Pair = tuple[float, str, str]


def first_few(lines: list[str], count: int | None = None) -> list[str]:
    """The first lines, indented, and how many more there are of ``count`` or of the lines."""
    total = len(lines) if count is None else count
    shown = [f"    {line}" for line in lines[:MOST_SHOWN]]
    return [*shown, *rest(total)]


def rest(count: int) -> list[str]:
    """One line that says how many of ``count`` are not shown, or none."""
    return [f"    and {count - MOST_SHOWN} more"] if count > MOST_SHOWN else []


def describe_rows(label_set: LabelSet, bundle: Bundle, bank: TextBank) -> list[str]:
    """Who made the rows, which phrases the bank knows by another name, and which are guesses."""
    by_maker = _phrases_by_maker(label_set, bundle, bank)
    phrases = [phrase for group in by_maker.values() for phrase in group]
    lines = []

    for maker in sorted(by_maker):
        lines.append(f"  {len(by_maker[maker]):>5} phrases: {maker}")
        if maker != _EXACT:
            lines += first_few([f"'{phrase}'" for phrase in by_maker[maker]])

    new = [phrase for maker in by_maker if maker not in _OF_BANK for phrase in by_maker[maker]]
    lines += _listed("these are new, and spelt almost as a name of the bank:", _doubts(new, bank))
    aliases = _aliases(phrases, bank)
    lines += _listed("the bank knows these under another spelling:", aliases)
    guesses = _guesses(phrases, bank)
    lines += _listed("warning: the text encoder reads English; these rows are guesses:", guesses)
    return lines


def _listed(title: str, lines: list[str]) -> list[str]:
    return [f"  {title}", *first_few(lines)] if lines else []


def _doubts(new: list[str], bank: TextBank) -> list[str]:
    meant = [(phrase, bank.likely_meant(phrase)) for phrase in new[:MOST_SHOWN]]
    return [f"'{phrase}': did you mean '{name}'?" for phrase, name in meant if name]


def _aliases(phrases: list[str], bank: TextBank) -> list[str]:
    aliases = [(phrase, bank.alias(phrase)) for phrase in phrases]
    return [f"'{phrase}' is '{name}'" for phrase, name in aliases if name]


def _guesses(phrases: list[str], bank: TextBank) -> list[str]:
    return [
        f"'{phrase}'"
        for phrase in phrases
        if bank.find(phrase) in bank.approximate and not _has_latin_letter(phrase)
    ]


def _phrases_by_maker(label_set: LabelSet, bundle: Bundle, bank: TextBank) -> dict[str, list[str]]:
    """Who made the rows ("bank, exact", ...) -> the phrases that stand on them."""
    by_maker: dict[str, list[str]] = {}
    for phrase in label_set.phrases(bundle.manifest.templates):
        row = bank.find(phrase)
        if row is not None:
            by_maker.setdefault(bank.maker(row), []).append(phrase)
    return by_maker


def _has_latin_letter(phrase: str) -> bool:
    return any(c.isascii() and c.isalpha() for c in bare(normalise(phrase)))


def groups_without_background(label_set: LabelSet, teaching: Teaching | None = None) -> list[str]:
    """Groups in which nothing means 'none of these', sorted. One of their labels always wins."""
    if label_set.background:
        return []
    groups = {label.group for label in label_set.labels}
    with_background = {label.group for label in label_set.labels if label.background}
    with_pictures = {
        group.name for group in (teaching.groups if teaching else ()) if NONE in group.labels
    }
    return sorted(groups - with_background - with_pictures)


def describe_pairs(label_set: LabelSet, bundle: Bundle, bank: TextBank) -> list[str]:
    """For each group the pairs of labels that lie close, closest first."""
    compiled = compile_labels(label_set, bundle, bank)
    lines = []

    for title, low, high in (
        ("mean the same; keep one of each pair:", SAME, 2.0),
        ("often taken for one another:", CLOSE, SAME),
    ):
        pairs, count = close_pairs(compiled, bank, low, high)
        if pairs:
            texts = [f"{cosine:.2f}  {one} / {other}" for cosine, one, other in pairs]
            lines += [f"  {title}", *first_few(texts, count)]
    return lines or [f"  all labels are well apart (no two of a group above {CLOSE})"]


def close_pairs(
    compiled: CompiledLabels, bank: TextBank, low: float, high: float
) -> tuple[list[Pair], int]:
    """The closest (cosine, label, label) with low <= cosine < high, and how many there are.

    Only labels of one group are compared. Rows are compared in blocks and only what is shown is
    kept: 10,000 labels may have millions of close pairs.
    """
    rows = centred(compiled.matrix, bank)
    closest: list[Pair] = []
    count = 0

    for _, group in compiled.groups:
        members = rows[group]
        names = compiled.names[group]
        for start in range(0, len(members), _BLOCK):
            # Of two labels each pair once: above the diagonal, from this block's first row on.
            cosines = np.triu(members[start : start + _BLOCK] @ members[start:].T, 1)
            pairs, pairs_in_block = _pairs_between(cosines, names[start:], low, high)
            count += pairs_in_block
            closest = sorted([*closest, *pairs], key=_closest_first)[:MOST_SHOWN]
    return closest, count


def _pairs_between(
    cosines: NDArray[np.float32], names: tuple[str, ...], low: float, high: float
) -> tuple[list[Pair], int]:
    """The closest pairs of a block, and how many lie between ``low`` and ``high``."""
    one, other = np.nonzero((cosines >= low) & (cosines < high))
    values = cosines[one, other]
    best = np.argsort(-values, kind="stable")[:MOST_SHOWN]

    pairs = [(float(values[i]), names[one[i]], names[other[i]]) for i in best]
    return pairs, len(one)


def _closest_first(pair: Pair) -> tuple[float, str, str]:
    cosine, one, other = pair
    return -cosine, one, other


def centred(rows: NDArray[np.float32], bank: TextBank) -> NDArray[np.float32]:
    """Rows less the bank's mean, unit norm, float32 (N, dim).

    CLIP's text rows share a large mean that says nothing; without it cosines tell words apart.
    """
    moved = rows - bank.rows.mean(axis=0, dtype=np.float32)
    norms = np.linalg.norm(moved, axis=1, keepdims=True)
    return np.asarray(moved / np.maximum(norms, 1e-6), np.float32)
