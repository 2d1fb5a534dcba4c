"""The bank of text embeddings that ships with a bundle: which phrases it holds, and their rows.

Rows that ``edge-label labels build`` made for one label set are added here (``TextBank.extended``).
No text encoder runs here; ``model/text`` has it.
"""

from __future__ import annotations

import difflib
import json
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from edge_runtime.errors import BundleError
from edge_runtime.model.labels.phrase_rows import PhraseRows
from edge_runtime.model.labels.phrases import PhraseIndex, bare, normalise
from edge_runtime.model.npy import read_embeddings

if TYPE_CHECKING:
    from edge_runtime.model.bundle import Bundle

_MISTAKE = 0.85  # how alike two spellings are that differ by a mistake: difflib's ratio
BANK_SCHEMA = "edge-label-bank/1"


class TextBank:
    """Precomputed text embeddings, one a phrase.

    Attributes:
        names: The phrases, in the order of the rows.
        rows: Shape (N, dim), unit norm; float16 in a bundle.
        approximate: Rows that a small text encoder estimated.
        taught: Rows that pictures moved, to where this bundle's encoder puts them. All others are
            exact.
    """

    def __init__(
        self,
        names: list[str],
        rows: NDArray[np.floating],
        approximate: frozenset[int] = frozenset(),
        makers: dict[int, str] | None = None,
        taught: frozenset[int] = frozenset(),
    ) -> None:
        self.names = names
        self.rows = rows
        self.approximate = approximate
        self.taught = taught
        self._makers = makers or {}
        self._index = PhraseIndex(names, approximate)

    @classmethod
    def from_bundle(cls, bundle: Bundle) -> TextBank:
        """Read text_bank.npy and text_bank.json, and check that they fit each other and the bundle.

        Raises BundleError.
        """
        where = str(bundle.path / "text_bank.json")
        rows = read_embeddings(bundle.read("text_bank.npy"), str(bundle.path / "text_bank.npy"))

        try:
            meta = json.loads(bundle.read("text_bank.json"))
            schema = meta["schema"]
            text_space = meta["text_space"]
            names = [str(name) for name in meta["names"]]
            approximate = frozenset(int(row) for row in meta["approximate"])
            taught = frozenset(int(row) for row in meta.get("taught", ()))
        except (ValueError, KeyError, TypeError, RecursionError, OverflowError) as error:
            raise BundleError(
                f"{where}: not a text bank ({error})", "reinstall the bundle"
            ) from error

        manifest = bundle.manifest
        if schema != BANK_SCHEMA or text_space != manifest.text_space:
            raise BundleError(
                f"{where}: {schema} for {text_space}, the bundle is for {manifest.text_space}",
                "parts of two bundles are mixed, reinstall one",
            )
        if rows.shape != (len(names), manifest.dim):
            raise BundleError(
                f"{where}: {len(names)} names for rows of shape {rows.shape} "
                f"in dimension {manifest.dim}",
                "reinstall the bundle",
            )
        return cls(names, rows, approximate, taught=taught)

    def extended(self, built: PhraseRows) -> TextBank:
        """This bank, and the rows that were built for a label set. Exact rows of the bank win."""
        makers = {}
        for row, phrase in enumerate(built.phrases, start=len(self.names)):
            makers[row] = "pictures" if phrase in built.pictured else built.encoder

        # A row made from pictures is no estimate, whatever the encoder of its neighbours.
        estimates = frozenset(
            row for row, maker in makers.items() if built.approximate and maker != "pictures"
        )
        return TextBank(
            [*self.names, *built.phrases],
            np.concatenate((self.rows, built.rows)),
            self.approximate | estimates,
            self._makers | makers,
            self.taught,
        )

    @property
    def shipped(self) -> int:
        """How many rows came with the bundle. They are the first."""
        return len(self.names) - len(self._makers)

    def maker(self, row: int) -> str:
        """Where a row comes from, and its quality: ``bank, exact``, ``bank, taught`` and so on."""
        quality = "approximate" if row in self.approximate else "exact"
        if row in self.taught:
            quality = "taught"
        return f"{self._makers.get(row, 'bank')}, {quality}"

    def find(self, phrase: str) -> int | None:
        """The row of a phrase by the rules of ``PhraseIndex.find``; None where there is none."""
        return self._index.find(phrase)

    def alias(self, phrase: str) -> str | None:
        """The name under which a phrase is found, None where it is the phrase itself."""
        row = self.find(phrase)
        if row is None or bare(normalise(self.names[row])) == bare(normalise(phrase)):
            return None
        return self.names[row]

    def likely_meant(self, phrase: str) -> str | None:
        """The bundle's name that is spelt almost as a new phrase: one of the two is a mistake."""
        names = [normalise(name) for name in self.names[: self.shipped]]
        near = difflib.get_close_matches(bare(normalise(phrase)), names, n=1, cutoff=_MISTAKE)
        return near[0] if near else None

    def nearest_names(self, phrase: str, n: int = 3) -> list[str]:
        """Names of the bank that are spelt most like the phrase; error messages show them."""
        key = bare(normalise(phrase))
        names = list(dict.fromkeys(normalise(name) for name in self.names))

        near = difflib.get_close_matches(key, names, n=n, cutoff=0.6)
        if near:
            return near

        # A long phrase is spelt like no name, but one of its words may be in some.
        words = set(key.split())
        return [name for name in names if words & set(name.split())][:n]
