"""The genuine CLIP ViT-B/32 text rows: read, brought to one spelling, and told apart by kind.

Nothing here estimates a row; ``sentence_map`` does.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edge_runtime.errors import DataError, NoInputError, UsageError
from edge_runtime.model.labels.phrases import bare, normalise
from edge_runtime.model.labels.text_bank import TextBank

DEFAULT_WEIGHTS = Path("../shared/weights")
HELD_OUT = 400  # names of a kind, at most
HELD_OUT_SHARE = 0.25


@dataclass(frozen=True)
class TextRows:
    """Genuine CLIP text embeddings, brought to one spelling; a name may have several rows."""

    names: tuple[str, ...]  # what a person would type: "air conditioner"
    prompts: tuple[str, ...]  # what the vector stands for: "a air conditioner", or a whole caption
    vectors: np.ndarray  # float32 (N, 512), unit norm
    # str (N,): "plain" ("a {name}"), "moved" (other spelling, step taken back), "caption" (only to
    # fit on: no bank holds it)
    kinds: np.ndarray
    words: np.ndarray  # str (N,): what kind of word it is, "objects", "scenes" and so on


@dataclass(frozen=True)
class _Set:
    """How the rows of one set of clip_vitb32_text_more are called."""

    words: str
    spelling: str  # sets of one spelling share one step
    name: str = "{}"


# Four sets are left out. EuroSAT's templates shift it from all others, and the aerial scenes cover
# its names. The sentences about faces would describe people. The plurals state no licence. The car
# models are finer than a small image encoder sees. The map is no better with any of them.
_MORE = {
    "sun397": _Set("scenes", "photo"),
    "dtd": _Set("textures", "photo", "{} texture"),
    "mnist+svhn": _Set("numbers", "photo", "number {}"),
    "resisc45": _Set("aerial", "satellite", "satellite photo of {}"),
    "gtsrb": _Set("signs", "sign", "{} traffic sign"),
    "rooms_surfaces64": _Set("rooms", "{}"),
    "detic_ssv2_states44": _Set("states", "{}"),
}


def as_prompt(phrase: str) -> str:
    """Spell a phrase as the bank's rows are: "A photo of the Snowy_Road" -> "a snowy road"."""
    return "a " + bare(normalise(phrase.replace("_", " ")))


def load_text_rows(weights: Path) -> TextRows:
    """Read the bank, the extra rows and the further sets.

    ImageNet rows stand for the first synonym ("a tench"). LVIS names were encoded with their
    underscores ("a air_conditioner"), some names bare ("road"), as a photo, or in 80 templates.
    Each way of spelling moves a row by a nearly constant step. The step is measured on the names
    known both ways and taken back: the cosine to the plainly spelled row rises from 0.96 to 0.98
    for underscores, and from 0.96 to 0.99 for photos.

    Raises NoInputError where a file is missing, DataError where one cannot be read.
    """
    entries, stored = _read_rows(weights)
    vectors = unit(np.concatenate(stored).astype(np.float32))
    kept = [row for row, entry in enumerate(entries) if entry.get("set", "sun397") in _MORE]
    described = [_describe(entries[row]) for row in kept]
    names = [name for name, _, _ in described]
    spellings = [spelling for _, spelling, _ in described]
    vectors = vectors[kept]

    _take_steps_back(vectors, names, spellings)
    kinds = [spelling if spelling in ("plain", "caption") else "moved" for spelling in spellings]
    prompts = [
        name if spelling == "caption" else f"a {name}"
        for name, spelling in zip(names, spellings, strict=True)
    ]
    words = np.array([words for _, _, words in described])
    return TextRows(tuple(names), tuple(prompts), unit(vectors), np.array(kinds), words)


def known_rows(weights: Path, words: Sequence[str] = ()) -> TextRows:
    """The rows of some kinds of words, or all rows where `words` is empty.

    Raises UsageError for an unknown kind, and what `load_text_rows` raises.
    """
    rows = load_text_rows(weights)
    kinds = sorted(set(map(str, rows.words)))
    unknown = sorted(set(words) - set(kinds))
    if unknown:
        raise UsageError(
            f"no kind of words is called '{unknown[0]}'", f"there are: {', '.join(kinds)}"
        )
    return _chosen(rows, np.isin(rows.words, list(words))) if words else rows


def _read_rows(weights: Path) -> tuple[list[dict[str, str]], list[np.ndarray]]:
    """(what the JSON files say of each row, the arrays of rows), in the order of the files."""
    entries = []
    stored = []
    try:
        for part in ("bank", "extra", "more"):
            said = json.loads((weights / f"clip_vitb32_text_{part}_names.json").read_text("utf-8"))
            entries += said["rows"] if part == "more" else said
            stored.append(np.load(weights / f"clip_vitb32_text_{part}.npy"))
    except FileNotFoundError as error:
        raise NoInputError(
            f"{error.filename}: missing", "give the folder of the CLIP text rows as weights"
        ) from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{weights}: its CLIP text rows cannot be read ({error})") from error
    if sum(map(len, stored)) != len(entries):
        raise DataError(f"{weights}: its CLIP text rows and their names differ in number")
    return entries, stored


def _describe(entry: dict[str, str]) -> tuple[str, str, str]:
    """(name, how it was spelled when it was encoded, kind of word); a caption is kept as it is."""
    name = entry["name"]
    if "set" in entry:
        own = _MORE[entry["set"]]
        return as_prompt(own.name.format(name))[2:], own.spelling, own.words

    if entry["source"] == "imagenet1k":
        name = name.split(",")[0]
    if name.endswith("."):
        return " ".join(name.casefold().split()), "caption", "captions"
    plain = "underscore" if "_" in name else "plain"
    return as_prompt(name)[2:], entry.get("prompt", plain), "objects"


def _take_steps_back(vectors: np.ndarray, names: list[str], spellings: list[str]) -> None:
    """Move the rows of each odd spelling, in place, by the mean step to the plain rows."""
    plain = {name: row for row, name in enumerate(names) if spellings[row] == "plain"}
    for spelling in sorted(set(spellings) - {"plain", "caption"}):
        rows = [row for row, own in enumerate(spellings) if own == spelling]
        both = [(row, plain[names[row]]) for row in rows if names[row] in plain]
        steps = [vectors[plain_row] - vectors[row] for row, plain_row in both]
        if steps:
            vectors[rows] += np.mean(steps, axis=0)


def unique_rows(rows: TextRows) -> dict[str, np.ndarray]:
    """Name -> unit float32 (512,), sorted by name, captions left out.

    Plain rows of a name are averaged; where it has none, moved ones.
    """
    groups: dict[str, list[int]] = {}
    for row in np.flatnonzero(rows.kinds != "caption"):
        groups.setdefault(rows.names[row], []).append(row)

    out = {}
    for name in sorted(groups):
        plain = [row for row in groups[name] if rows.kinds[row] == "plain"]
        out[name] = unit(rows.vectors[plain or groups[name]].mean(axis=0))
    return out


def bank_of(rows: TextRows) -> TextBank:
    """The rows of `unique_rows` as a bank."""
    names = unique_rows(rows)
    return TextBank(list(names), np.stack(list(names.values())))


def held_out_names(rows: TextRows, words: str, skip: int = 0) -> list[str]:
    """A fixed draw of names of a kind, in the order of the SHA-256 of the name: no seed, no drift.

    A quarter of the kind, at most `HELD_OUT`. Names that also are of another kind are not drawn.
    """
    kinds: dict[str, set[str]] = {}
    for name, kind in zip(rows.names, rows.words, strict=True):
        kinds.setdefault(spelling(name), set()).add(str(kind))
    names = {
        name
        for name, kind in zip(rows.names, rows.words, strict=True)
        if kind == words and len(kinds[spelling(name)]) == 1
    }

    def order(name: str) -> str:
        return hashlib.sha256(f"edge-label held-out {spelling(name)}".encode()).hexdigest()

    count = min(HELD_OUT, round(HELD_OUT_SHARE * len(names)))
    return sorted(names, key=order)[skip : skip + count]


def without(rows: TextRows, names: Sequence[str]) -> TextRows:
    """The rows without any spelling of `names`; prompts and captions count as spellings."""
    away = {spelling(name) for name in names}
    return _chosen(rows, np.array([spelling(name) not in away for name in rows.names]))


def with_taught(rows: TextRows, taught: Mapping[str, np.ndarray]) -> TextRows:
    """The rows with taught ones, (512,) each, in place of any spelling of their names."""
    if not taught:
        return rows
    names = list(taught)
    kept = without(rows, names)
    vectors = np.stack(list(taught.values()))
    return TextRows(
        (*kept.names, *names),
        (*kept.prompts, *(f"a {name}" for name in names)),
        np.concatenate([kept.vectors, unit(np.asarray(vectors, np.float32))]),
        np.concatenate([kept.kinds, np.full(len(names), "plain")]),
        np.concatenate([kept.words, np.full(len(names), "taught")]),
    )


def taught_of(bank: TextBank) -> dict[str, np.ndarray]:
    """The rows of a bank that pictures moved, by name."""
    return {bank.names[row]: bank.rows[row] for row in sorted(bank.taught)}


def _chosen(rows: TextRows, keep: np.ndarray) -> TextRows:
    places = np.flatnonzero(keep)
    return TextRows(
        tuple(rows.names[place] for place in places),
        tuple(rows.prompts[place] for place in places),
        rows.vectors[places],
        rows.kinds[places],
        rows.words[places],
    )


def spelling(name: str) -> str:
    """A name without what differs between spellings of it: its letters and digits."""
    return re.sub(r"[^a-z0-9]", "", name.casefold())


def unit(x: np.ndarray) -> np.ndarray:
    """float32, every row of length 1."""
    return (x / np.linalg.norm(x, axis=-1, keepdims=True)).astype(np.float32)
