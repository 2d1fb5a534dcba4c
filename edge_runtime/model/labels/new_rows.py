"""Rows for phrases that a label set names and the text bank lacks: made once, then kept in a file.

``make_rows`` makes them, in a child process; ``with_new_rows`` also keeps them, and finds them
again. They are kept beside the label set, in ``my.embeddings``, or under the state directory where
that folder takes no file (``kept_rows_path``).
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from edge_runtime.errors import ConfigError, EdgeLabelError
from edge_runtime.model.labels.label_set import LabelSet
from edge_runtime.model.labels.phrase_rows import PhraseRows, rows_path
from edge_runtime.model.labels.phrases import normalise
from edge_runtime.model.labels.text_bank import TextBank
from edge_runtime.system.digest import sha256_hex
from edge_runtime.system.ownership import path_that_only_root_can_change
from edge_runtime.system.state import state_folder

if TYPE_CHECKING:
    from edge_runtime.model.bundle import Bundle

log = logging.getLogger("edge_label")

# More may take longer than systemd waits for a start: docs/decisions/026-words-just-work.md.
MOST_AT_ONCE = 1000
# New phrases that are compared with all names of the bank, letter by letter: 10 ms each.
_LOOKED_AT = 20


def missing_phrases(label_set: LabelSet, bundle: Bundle, bank: TextBank) -> list[str]:
    """The phrases of a label set that the bank does not hold, in order."""
    phrases = label_set.phrases(bundle.manifest.templates)
    return [phrase for phrase in phrases if bank.find(phrase) is None]


def make_rows(phrases: Sequence[str], bundle: Bundle, bank: TextBank) -> PhraseRows:
    """Rows of phrases in the bundle's text space, by the text encoder that ``labels build`` uses.

    Runs a child process for a second or more and writes no file. Raises ConfigError for more than
    ``MOST_AT_ONCE`` phrases and for an encoder of another text space, NoInputError without an
    encoder, DataError where it fails.
    """
    if len(phrases) > MOST_AT_ONCE:
        raise ConfigError(
            f"{len(phrases)} phrases are new, more than {MOST_AT_ONCE}",
            "run: edge-label labels build",
        )

    # Only here: a camera whose rows are all there needs no child process.
    from edge_runtime.model.text.encoder import find_text_encoder
    from edge_runtime.model.text.text_space import encode_in_space

    as_written = {normalise(phrase): phrase for phrase in phrases}
    encoder = find_text_encoder(bundle=bundle.path)
    encoded = encode_in_space(list(as_written.values()), encoder, bundle, bank)
    return PhraseRows(
        phrases=tuple(as_written),
        rows=encoded.rows.astype(np.float16),
        encoder=encoded.encoder,
        approximate=encoded.approximate,
        text_space=bundle.manifest.text_space,
        request="",
    )


def kept_rows_path(label_set: Path) -> Path | None:
    """Where the rows of a label set are kept if its own folder takes no file.

    The name has a hash of the whole path. None where there is no state directory.
    """
    folder = state_folder()
    if folder is None:
        return None
    digest = sha256_hex(os.fsencode(label_set.absolute()))[:12]
    return folder / "embeddings" / f"{label_set.stem}-{digest}.embeddings"


def row_files(name_or_path: str, bundle: Bundle) -> list[Path]:
    """The files that exist with rows of a label set."""
    if name_or_path in bundle.label_sets():
        return []
    path = Path(name_or_path)
    places = (rows_path(path), kept_rows_path(path))
    return [place for place in places if place and place.exists()]


def with_new_rows(
    bank: TextBank, label_set: LabelSet, name_or_path: str, bundle: Bundle
) -> TextBank:
    """The bank, extended by a row for every phrase of the label set that it lacks.

    ``bank`` holds what stands beside the label set already. Rows that are kept nowhere are made and
    kept. Raises ConfigError, with the first phrase, where they cannot be made or not be kept.
    """
    missing = missing_phrases(label_set, bundle, bank)
    if not missing or name_or_path in bundle.label_sets():
        return bank

    path = Path(name_or_path)
    try:
        rows = _kept_rows(missing, path, bundle)
        if rows is None or not set(map(normalise, missing)) <= set(rows.phrases):
            rows = _make_and_keep(missing, rows, label_set, path, bundle, bank)
    except EdgeLabelError as error:
        raise ConfigError(
            f"{path}: the text bank lacks {_named(missing, bank)}, and {error.what}", error.advice
        ) from error
    return bank.extended(rows)


def _kept_rows(missing: list[str], label_set: Path, bundle: Bundle) -> PhraseRows | None:
    """What the state directory keeps of the missing phrases; None where that is nothing."""
    path = kept_rows_path(label_set)
    if path is None:
        return None

    try:
        kept = PhraseRows.read(path)
    except ConfigError as error:
        log.warning("%s; its rows are made again", error.what)
        return None

    manifest = bundle.manifest
    if kept is None or (kept.text_space, kept.rows.shape[1]) != (manifest.text_space, manifest.dim):
        return None
    known = kept.only({normalise(phrase) for phrase in missing})
    return known if known.phrases else None


def _make_and_keep(
    missing: list[str],
    kept: PhraseRows | None,
    label_set: LabelSet,
    path: Path,
    bundle: Bundle,
    bank: TextBank,
) -> PhraseRows:
    """Rows of all missing phrases: those that are kept, and new ones for the others."""
    started_s = time.monotonic()
    known = kept.phrases if kept else ()
    new_phrases = [phrase for phrase in missing if normalise(phrase) not in known]
    rows = make_rows(new_phrases, bundle, bank)

    if kept and kept.encoder == rows.encoder:
        rows = _joined(kept, rows)
    elif kept:  # by another version of the encoder: all rows of a file come from one
        new_phrases = missing
        rows = make_rows(missing, bundle, bank)

    wanted = {normalise(phrase) for phrase in label_set.phrases(bundle.manifest.templates)}
    target = _keep(rows, path, wanted)
    log.info(
        "wrote rows for %s to %s in %.1f s",
        _counted(new_phrases, bank),
        target,
        time.monotonic() - started_s,
    )
    return rows


def _joined(one: PhraseRows, other: PhraseRows) -> PhraseRows:
    """All rows of the one, then all of the other, which names the encoder of both."""
    return replace(
        one,
        phrases=(*one.phrases, *other.phrases),
        rows=np.concatenate((one.rows, other.rows)),
        encoder=other.encoder,
        approximate=other.approximate,
        request="",
    )


def _keep(rows: PhraseRows, label_set: Path, wanted: set[str]) -> Path:
    """Write the rows to the first place that takes them; returns it. Raises ConfigError."""
    beside = rows_path(label_set)
    kept = kept_rows_path(label_set)
    reasons = []

    for place in (beside, kept):
        if place is None:
            continue
        try:
            # Another user could plant a link there and have root write through it.
            path_that_only_root_can_change(place.parent)
            stored = _beside(PhraseRows.read(place), rows, wanted) if place == beside else rows
            stored.write(place)
        except EdgeLabelError as error:
            reasons.append(error.what)
        else:
            return place

    raise ConfigError(
        f"its rows cannot be kept: {', '.join(reasons)}",
        "name a folder with room in $STATE_DIRECTORY, or run on another machine: "
        f"edge-label labels build {label_set.name}",
    )


def _beside(old: PhraseRows | None, rows: PhraseRows, wanted: set[str]) -> PhraseRows:
    """What stands beside the label set, with the rows added and what it no longer names removed.

    Raises ConfigError where an encoder made it that may not be the present one.
    """
    if old is None:
        return rows

    text_phrases = set(old.phrases) - set(old.pictured)
    if text_phrases and old.encoder != rows.encoder:
        raise ConfigError(f"the rows beside it are by {old.encoder}")
    still_named = (text_phrases & wanted) - set(rows.phrases)
    kept = old.only(still_named | set(old.pictured))
    added = _joined(kept, rows) if kept.phrases else rows
    return replace(added, teaching=old.teaching)


def _named(phrases: Sequence[str], bank: TextBank) -> str:
    """``'a gren' (near it: green) and 3 more``."""
    near = ", ".join(bank.nearest_names(phrases[0]))
    hint = f" (near it: {near})" if near else ""
    more = f" and {len(phrases) - 1} more" if len(phrases) > 1 else ""
    return f"'{phrases[0]}'{hint}{more}"


def _counted(phrases: Sequence[str], bank: TextBank) -> str:
    """``2 new phrases ('a gravle road', ...; did you mean 'gravel road'?)``."""
    noun = "phrase" if len(phrases) == 1 else "phrases"
    more = ", ..." if len(phrases) > 1 else ""
    meant = next(filter(None, map(bank.likely_meant, phrases[:_LOOKED_AT])), None)
    question = f"; did you mean '{meant}'?" if meant else ""
    return f"{len(phrases)} new {noun} ('{phrases[0]}'{more}{question})"
