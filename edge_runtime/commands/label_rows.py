"""The rows that the text bank lacks for a label set: my.yaml -> my.embeddings, beside it.

``labels build`` uses this, on a workstation or on the camera; the daemon only reads the file.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from edge_runtime.errors import ConfigError
from edge_runtime.model.bundle import Bundle
from edge_runtime.model.labels.label_set import LabelSet
from edge_runtime.model.labels.phrase_rows import (
    PhraseRows,
    refuse_other_file,
    remove_rows,
    rows_path,
)
from edge_runtime.model.labels.phrases import normalise
from edge_runtime.model.labels.taught import encoder_digest
from edge_runtime.model.labels.text_bank import TextBank
from edge_runtime.model.text.encoder import Encoded, encoder_hash, find_text_encoder
from edge_runtime.model.text.text_space import encode_in_space
from edge_runtime.system.digest import sha256_hex

Phrases = dict[str, str]  # normalised -> as written


@dataclass(frozen=True, slots=True)
class RowBuilder:
    """Builds the rows of one label set.

    ``kept`` is what no text encoder can make again: rows that tools.calibrate made from pictures,
    and what ``labels learn`` taught; None where there is neither. ``note`` says what is lost.
    ``last_request`` is what the file that is there was built for, None where there is none.
    """

    label_set_path: str
    target: Path
    bundle: Bundle
    bank: TextBank
    kept: PhraseRows | None
    note: str
    last_request: str | None

    @classmethod
    def of(cls, label_set_path: str, bundle: Bundle, bank: TextBank) -> RowBuilder:
        """The builder for a label set in a file.

        Raises ConfigError where a file is in the way that no build made.
        """
        target = rows_path(Path(label_set_path))
        refuse_other_file(target)  # now, and not after minutes of encoding

        built = _built_rows(target)
        kept = _kept(built, bundle) if built else None
        loses_teaching = built is not None and built.teaching and not (kept and kept.teaching)
        note = "; what pictures taught was of another bundle: run edge-label labels learn again"
        last_request = built.request if built else None
        return cls(
            label_set_path, target, bundle, bank, kept, note if loses_teaching else "", last_request
        )

    def build(self, label_set: LabelSet, text_encoder: str | None, *, force: bool) -> str:
        """Write the file, or remove it where nothing is missing; returns what was done.

        Raises ConfigError for an encoder of another text space, DataError where it fails.
        """
        phrases = self._inexact_phrases(label_set)
        all_known = all(self.bank.find(phrase) is not None for phrase in phrases.values())

        # Without --text-encoder the bank's own estimates are as good as any that could be made.
        if all_known and text_encoder is None:
            return self._without_encoder(phrases) + self.note
        encoder = find_text_encoder(text_encoder, self.bundle.path)
        request = self._request(phrases, encoder)
        if not force and self.last_request == request:
            return f"{self.target}: up to date"
        return self._with_encoder(phrases, encoder, request) + self.note

    def _inexact_phrases(self, label_set: LabelSet) -> Phrases:
        """All phrases that the bank does not hold exactly and as written."""
        bank = self.bank.extended(self.kept) if self.kept else self.bank
        phrases = {}
        for phrase in label_set.phrases(self.bundle.manifest.templates):
            row = bank.find(phrase)
            if row is None or row in bank.approximate or bank.alias(phrase):
                phrases[normalise(phrase)] = phrase
        return phrases

    def _without_encoder(self, phrases: Phrases) -> str:
        self._write_kept()

        bank = self.bank
        estimates = sum(bank.find(phrase) in bank.approximate for phrase in phrases.values())
        note = f", {estimates} of them approximately" if estimates else ""
        return f"{self.label_set_path}: the text bank holds every phrase{note}; nothing to build"

    def _write_kept(self) -> None:
        """Only what no encoder can make, or no file where there is none."""
        if self.kept:
            self.kept.write(self.target)
        else:
            remove_rows(self.target)

    def _with_encoder(self, phrases: Phrases, encoder: str, request: str) -> str:
        encoded = encode_in_space(list(phrases.values()), encoder, self.bundle, self.bank)
        added = self._better_than_bank(phrases, encoded)
        if not added and not (self.kept and self.kept.phrases):
            self._write_kept()
            return (
                f"{self.target}: not needed; the text bank holds every phrase, "
                f"and {encoded.encoder} only estimates"
            )

        self._write(phrases, encoded, added, request)
        quality = "approximate" if encoded.approximate else "exact"
        return f"{self.target}: {len(added)} phrases by {encoded.encoder}, {quality}"

    def _better_than_bank(self, phrases: Phrases, encoded: Encoded) -> list[int]:
        """Which of the phrases to take from the encoder.

        Where both only estimate, the bank's row stays: a phrase then scores the same with and
        without a build.
        """
        return [
            i
            for i, phrase in enumerate(phrases.values())
            if not encoded.approximate or self.bank.find(phrase) is None
        ]

    def _write(self, phrases: Phrases, encoded: Encoded, added: list[int], request: str) -> None:
        names = list(phrases)
        rows = encoded.rows[added].astype(np.float16)
        pictured_phrases: tuple[str, ...] = ()
        if self.kept:
            pictured_phrases = self.kept.phrases
            rows = np.concatenate((rows, self.kept.rows))

        PhraseRows(
            phrases=(*(names[i] for i in added), *pictured_phrases),
            rows=rows,
            encoder=encoded.encoder,
            approximate=encoded.approximate,
            text_space=self.bundle.manifest.text_space,
            request=request,
            pictured=pictured_phrases,
            teaching=self.kept.teaching if self.kept else None,
        ).write(self.target)

    def _request(self, phrases: Phrases, encoder: str) -> str:
        """A hash over everything that the rows depend on."""
        bank_hash, _ = self.bundle.manifest.files["text_bank.npy"]
        text_space = self.bundle.manifest.text_space
        parts = [sorted(phrases), encoder_hash(encoder), text_space, bank_hash]
        return sha256_hex(json.dumps(parts).encode())


def _built_rows(target: Path) -> PhraseRows | None:
    """The rows of an earlier build; None where the file is missing or damaged."""
    try:
        return PhraseRows.read(target)
    except ConfigError:
        return None


def _kept(built: PhraseRows, bundle: Bundle) -> PhraseRows | None:
    """What was made from pictures, which no text encoder can make again."""
    manifest = bundle.manifest
    same_space = built.text_space == manifest.text_space
    same_encoder = built.teaching and built.teaching.encoder == encoder_digest(manifest)

    pictured = built.pictured if same_space else ()
    teaching = built.teaching if same_space and same_encoder else None
    if not pictured and not teaching:
        return None

    return replace(built.only(pictured), pictured=pictured, teaching=teaching, request="")
