"""From sentence features and spelling to a text space: kernel ridge regression, the answering end.

    f(x)   = k(x) W B + mean
    k(x)_i = exp(-gamma |x - s_i|^2) + weight * (cosine of the letter n-grams of x and s_i)

The s_i are phrases whose true embeddings are known. The sentence encoder knows what words mean, the
n-grams know which words are alike. W is fitted by tools/factory/text/sentence_map.py, in the
principal directions B. NumPy only.
"""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

GAMMA = 0.5
SPELLING = 0.3  # weight of the n-gram part
NGRAMS = (2, 3, 4, 5)

_BLOCK_PHRASES = 256  # at once: the kernel of 10,000 phrases would take 100 MB

Floats = NDArray[np.float32]


def letter_ngrams(phrase: str) -> dict[str, float]:
    """n-gram -> weight of one phrase. The weights have unit norm; words keep their borders."""
    text = f" {phrase} "
    counts: dict[str, int] = {}
    for n in NGRAMS:
        for i in range(len(text) - n + 1):
            gram = text[i : i + n]
            counts[gram] = counts.get(gram, 0) + 1

    # Square roots keep a gram that occurs often from outweighing all others.
    norm = math.sqrt(sum(counts.values())) or 1.0
    return {gram: math.sqrt(count) / norm for gram, count in counts.items()}


class Kernel:
    """k(x) against fixed support phrases.

    ``support`` is float32 (S, F), unit-norm features; ``names`` are the S phrases as written.
    """

    def __init__(self, support: Floats, names: Sequence[str]) -> None:
        self._support = support

        rows: dict[str, list[int]] = {}
        weights: dict[str, list[float]] = {}
        for row, name in enumerate(names):
            for gram, weight in letter_ngrams(name).items():
                rows.setdefault(gram, []).append(row)
                weights.setdefault(gram, []).append(weight)

        # n-gram -> the support phrases that hold it, and their weights: an inverted index, since a
        # phrase shares few n-grams with most others.
        self._index = {
            gram: (np.array(rows[gram]), np.array(weights[gram], np.float32)) for gram in rows
        }

    def __call__(self, features: Floats, phrases: Sequence[str]) -> Floats:
        """float32 (N, S), of float32 (N, F) unit-norm features and their N bare phrases."""
        # |x - s|^2 = 2 - 2 x.s for unit vectors; rounding may leave it just below 0.
        squared = np.maximum(2 - 2 * features @ self._support.T, 0)
        values: Floats = np.exp(-GAMMA * squared)

        for row, phrase in zip(values, phrases, strict=True):
            for gram, weight in letter_ngrams(phrase).items():
                if gram in self._index:
                    members, member_weights = self._index[gram]
                    row[members] += SPELLING * weight * member_weights
        return values


@dataclass(frozen=True, slots=True)
class PhraseMap:
    """A fitted map, as small as its quality allows: int8 support, float16 coefficients.

    S support phrases, F features, B directions.

    Attributes:
        names: The support phrases.
        support: int8 (S, F); ``support * scale`` has unit-norm rows.
        scale: float32 (S, 1).
        dual: float16 (S, B), the W of the formula.
        basis: float16 (B, dim), orthonormal rows.
        mean: float32 (dim,).
        reach: float32 (), mean distance of the known rows from ``mean``. Ridge regression answers
            too close to the mean, and a label whose row is close to it loses to labels whose rows
            are exact. So answers are moved out to this distance.
    """

    names: tuple[str, ...]
    support: NDArray[np.int8]
    scale: Floats
    dual: NDArray[np.float16]
    basis: NDArray[np.float16]
    mean: Floats
    reach: Floats

    def kernel(self) -> Kernel:
        """The kernel over this map's support phrases."""
        return Kernel(self.support * self.scale, self.names)

    def rows(self, kernel: Kernel, features: Floats, phrases: Sequence[str]) -> Floats:
        """float32 (N, dim), unit norm, of float32 (N, F) features and their N bare phrases."""
        weights = self.dual.astype(np.float32) @ self.basis.astype(np.float32)
        out = np.empty((len(phrases), len(self.mean)), np.float32)

        for start in range(0, len(phrases), _BLOCK_PHRASES):
            part = slice(start, start + _BLOCK_PHRASES)
            step = kernel(features[part], phrases[part]) @ weights
            length = np.linalg.norm(step, axis=1, keepdims=True)
            out[part] = self.mean + step * (self.reach / np.maximum(length, 1e-6))

        out /= np.linalg.norm(out, axis=1, keepdims=True)
        return out

    def to_npz(self) -> bytes:
        """As bytes; equal maps give equal bytes."""
        out = io.BytesIO()
        arrays: dict[str, Any] = {
            "names": np.frombuffer("\n".join(self.names).encode(), np.uint8),
            "support": self.support,
            "scale": self.scale,
            "dual": self.dual,
            "basis": self.basis,
            "mean": self.mean,
            "reach": self.reach,
        }
        np.savez(out, allow_pickle=False, **arrays)
        return out.getvalue()

    @classmethod
    def from_npz(cls, data: bytes) -> PhraseMap:
        """From verified bytes. Raises ValueError, KeyError when they are no map."""
        with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
            fields: dict[str, Any] = {name: arrays[name] for name in arrays.files}

        # Bytes, since an array of strings would need four bytes a letter.
        names = tuple(fields["names"].tobytes().decode().split("\n"))
        if len(names) != len(fields["support"]) or len(names) != len(fields["dual"]):
            raise ValueError("names, support and dual differ in length")

        return cls(
            names=names,
            support=fields["support"],
            scale=fields["scale"],
            dual=fields["dual"],
            basis=fields["basis"],
            mean=fields["mean"],
            reach=fields["reach"],
        )
