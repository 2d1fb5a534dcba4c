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
_PROBES = 24
_MIN_AGREEMENT = 0.8


def encode_in_space(
    phrases: Sequence[str], encoder: str, bundle: Bundle, bank: TextBank
) -> Encoded:
    """Rows of the phrases, in order, by an encoder of the bundle's text space.

    Raises ConfigError for an encoder of another text space, DataError where it fails.
    """
    probes = _probes(bank)
    names = [bank.names[row] for row in probes]
    encoded = encode_phrases([*phrases, *names], encoder)

    probe_rows = encoded.rows[len(phrases) :]
    same_dim = encoded.rows.shape[1] == bundle.manifest.dim
    if not same_dim or _agreement(probe_rows, bank, probes) < _MIN_AGREEMENT:
        raise ConfigError(
            f"text encoder {encoder}: does not encode into the bundle's text space "
            f"{bundle.manifest.text_space} (it disagrees with the bank on names both know)",
            "use the tower that the bundle was made with",
        )
    return replace(encoded, rows=encoded.rows[: len(phrases)])


def _probes(bank: TextBank) -> list[int]:
    """Exact rows that came with the bundle, spread over all of it."""
    rows = np.linspace(0, bank.shipped - 1, _PROBES).astype(int).tolist()
    return [row for row in rows if row not in bank.approximate]


def _agreement(rows: NDArray[np.float32], bank: TextBank, probes: list[int]) -> float:
    """Mean cosine between an encoder's rows and the bank's."""
    if not probes:
        return 1.0
    bank_rows = bank.rows[probes].astype(np.float32)
    return float((rows * bank_rows).sum(axis=1).mean())
