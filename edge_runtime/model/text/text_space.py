"""Phrases into a bundle's text space: what a text encoder answers is tried on names of the bank."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from edge_runtime.errors import ConfigError
from edge_runtime.model.text.encoder import Encoded, encode_phrases

if TYPE_CHECKING:
    from edge_runtime.model.bundle import Bundle
    from edge_runtime.model.labels.text_bank import TextBank

# An encoder is tried on names that the bank holds exactly. The small encoder that ships, which only
# estimates, agrees with the bank's rows to a cosine of 0.98. Rows of unrelated names agree to 0.76:
# CLIP's texts share a large mean.
_PROBES = 8  # times the forms below
_MIN_AGREEMENT = 0.8

# A bank does not say in which of these forms a name was encoded; the nearest one counts.
_FORMS = ("{}", "a {}", "a photo of a {}")


def encode_in_space(
    phrases: Sequence[str], encoder: str, bundle: Bundle, bank: TextBank
) -> Encoded:
    """Rows of the phrases, in order, by an encoder of the bundle's text space.

    Raises ConfigError for an encoder of another text space, DataError where it fails.
    """
    probes = _probes(bank)
    spoken = [form.format(bank.names[row]) for form in _FORMS for row in probes]
    encoded = encode_phrases([*phrases, *spoken], encoder)

    same_dim = encoded.rows.shape[1] == bundle.manifest.dim
    spoken_rows = encoded.rows[len(phrases) :]
    if not same_dim or _agreement(spoken_rows, bank, probes) < _MIN_AGREEMENT:
        raise ConfigError(
            f"text encoder {encoder}: does not encode into the bundle's text space "
            f"{bundle.manifest.text_space} (it disagrees with the bank on names both know)",
            "use the tower that the bundle was made with",
        )
    return replace(encoded, rows=encoded.rows[: len(phrases)])


def _probes(bank: TextBank) -> list[int]:
    """Exact rows that came with the bundle, spread over all of it."""
    rows = np.linspace(0, bank.shipped - 1, _PROBES).astype(int).tolist()
    return [row for row in rows if row not in bank.approximate | bank.taught]


def _agreement(rows: NDArray[np.float32], bank: TextBank, probes: list[int]) -> float:
    """Mean cosine between the bank's rows and an encoder's, shape (forms x probes, dim)."""
    if not probes:
        return 1.0
    bank_rows = bank.rows[probes].astype(np.float32)
    by_form = rows.reshape(len(_FORMS), *bank_rows.shape)
    return float((by_form * bank_rows).sum(axis=-1).max(axis=0).mean())
