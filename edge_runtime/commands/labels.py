"""Work on a label set before a camera sees it: build what the text bank lacks, check it, search the bank.

Nothing here runs in the daemon. All answers are text for a person.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge_runtime.errors import ConfigError, UsageError
from edge_runtime.model.bundle import Bundle, find_bundle, load_bundle
from edge_runtime.model.labels.compiled import CompiledLabels, compile_labels, with_built_rows
from edge_runtime.model.labels.label_set import LabelSet, load_label_set
from edge_runtime.model.labels.phrase_rows import PhraseRows, remove_rows, rows_path
from edge_runtime.model.labels.phrases import bare, normalise
from edge_runtime.model.labels.text_bank import TextBank
from edge_runtime.model.text.encoder import encode_phrases, encoder_hash, find_text_encoder
from edge_runtime.system.digest import sha256_hex

# Cosines between label embeddings after the bank's mean is taken off both.
SAME = 0.9
CLOSE = 0.7
_PROBES = 24
_SPEAKS = 0.8
_SHOWN = 20


def build(
    path: str, bundle_path: str | None, text_encoder: str | None, *, force: bool = False
) -> str:
    """Encode every phrase the bank does not hold exactly, and write ``my.embeddings`` beside ``my.yaml``.

    Raises ConfigError for a bad label set or an encoder of another text space, DataError when the encoder fails;
    what stood there before is then unchanged.
    """
    bundle = load_bundle(find_bundle(bundle_path))
    if path in bundle.label_sets():
        raise UsageError(
            f"{path} ships with the bundle and needs no build",
            "give the path of a YAML file of yours",
        )
    label_set = load_label_set(path, bundle)
    bank = TextBank.from_bundle(bundle)
    target = rows_path(Path(path))
    pictured = _pictured(target, bundle)
    wanted = _inexact(label_set, bundle, bank.extended(pictured) if pictured else bank)
    if all(bank.find(phrase) is not None for phrase in wanted.values()) and text_encoder is None:
        if pictured:
            pictured.write(target)
        else:
            remove_rows(target)
        guesses = sum(bank.find(phrase) in bank.approximate for phrase in wanted.values())
        note = f", {guesses} of them approximately" if guesses else ""
        outcome = f"{path}: the text bank holds every phrase{note}; nothing to build"
    else:
        outcome = _encode_missing(
            target,
            wanted,
            bundle,
            bank,
            find_text_encoder(text_encoder, bundle.path),
            pictured,
            force,
        )
    bank = with_built_rows(bank, path, bundle)
    return "\n".join(
        [outcome, *_sources(label_set, bundle, bank), *_confusions(label_set, bundle, bank)]
    )


def _encode_missing(
    target: Path,
    wanted: dict[str, str],
    bundle: Bundle,
    bank: TextBank,
    encoder: str,
    pictured: PhraseRows | None,
    force: bool,
) -> str:
    request = _request(wanted, encoder, bundle)
    if not force and _request_of(target) == request:
        return f"{target}: up to date"
    probes = [
        i
        for i in np.linspace(0, len(bank.names) - 1, _PROBES).astype(int)
        if i not in bank.approximate
    ]
    encoded = encode_phrases([*wanted.values(), *(bank.names[i] for i in probes)], encoder)
    if (
        encoded.rows.shape[1] != bundle.manifest.dim
        or _agreement(encoded.rows[len(wanted) :], bank, probes) < _SPEAKS
    ):
        raise ConfigError(
            f"text encoder {encoder}: does not speak the bundle's text space {bundle.manifest.text_space} "
            "(it disagrees with the bank on names both know)",
            "use the tower that the bundle was made with",
        )
    # Where both are estimates, the bank's own stays: the same phrase then scores the same with and without a build.
    kept = [
        i
        for i, phrase in enumerate(wanted.values())
        if not encoded.approximate or bank.find(phrase) is None
    ]
    if not kept and not pictured:
        remove_rows(target)
        return f"{target}: not needed; the text bank holds every phrase, and {encoded.encoder} only estimates"
    names = list(wanted)
    rows = encoded.rows[kept].astype(np.float16)
    shown = pictured.phrases if pictured else ()
    PhraseRows(
        phrases=(*(names[i] for i in kept), *shown),
        rows=np.concatenate((rows, pictured.rows)) if pictured else rows,
        encoder=encoded.encoder,
        approximate=encoded.approximate,
        text_space=bundle.manifest.text_space,
        request=request,
        pictured=shown,
    ).write(target)
    quality = "approximate" if encoded.approximate else "exact"
    return f"{target}: {len(kept)} phrases by {encoded.encoder}, {quality}"


def _pictured(target: Path, bundle: Bundle) -> PhraseRows | None:
    """The rows of a file that were made from pictures, which no text encoder can make again."""
    try:
        built = PhraseRows.read(target)
    except ConfigError:
        return None
    if built is None or not built.pictured or built.text_space != bundle.manifest.text_space:
        return None
    kept = [i for i, phrase in enumerate(built.phrases) if phrase in built.pictured]
    return replace(
        built, phrases=tuple(built.phrases[i] for i in kept), rows=built.rows[kept], request=""
    )


def _inexact(label_set: LabelSet, bundle: Bundle, bank: TextBank) -> dict[str, str]:
    """Normalised phrase -> phrase, for all that the bank does not hold exactly and as written."""
    wanted = {}
    for phrase in label_set.phrases(bundle.manifest.templates):
        row = bank.find(phrase)
        if row is None or row in bank.approximate or bank.alias(phrase):
            wanted[normalise(phrase)] = phrase
    return wanted


def _request(wanted: dict[str, str], encoder: str, bundle: Bundle) -> str:
    bank_hash, _ = bundle.manifest.files["text_bank.npy"]
    parts = [sorted(wanted), encoder_hash(encoder), bundle.manifest.text_space, bank_hash]
    return sha256_hex(json.dumps(parts).encode())


def _request_of(target: Path) -> str | None:
    try:
        built = PhraseRows.read(target)
    except ConfigError:
        return None  # damaged: built again
    return built.request if built else None


def _agreement(rows: NDArray[np.float32], bank: TextBank, probes: list[int]) -> float:
    """Mean cosine between an encoder's rows and the bank's, on names the bank holds exactly."""
    if not probes:
        return 1.0
    truth = bank.rows[probes].astype(np.float32)
    return float((rows * truth).sum(axis=1).mean())


def check(path: str, bundle_path: str | None) -> tuple[str, bool]:
    """(report, usable): where each embedding comes from, and which labels would be taken for one another."""
    bundle = load_bundle(find_bundle(bundle_path))
    label_set = load_label_set(path, bundle)
    bank = with_built_rows(TextBank.from_bundle(bundle), path, bundle)
    missing = [p for p in label_set.phrases(bundle.manifest.templates) if bank.find(p) is None]
    lines = [
        f"{path}: {len(label_set.labels)} labels, {len(label_set.background)} background prompts"
    ]
    if always := sorted(_always_won(label_set)):
        lines.append(
            f"  no background: some label of group {', '.join(always)} always wins, whatever is seen; add one"
        )
    if missing:
        lines.append(
            f"not in the text bank: {len(missing)} phrases; run: edge-label labels build {path}"
        )
        for phrase in missing[:_SHOWN]:
            near = bank.nearest_names(phrase)
            lines.append(
                f"  '{phrase}': "
                + (f"near it: {', '.join(near)}" if near else "nothing is spelt like it")
            )
        return "\n".join([*lines, *_rest(len(missing))]), False
    return "\n".join(
        [*lines, *_sources(label_set, bundle, bank), *_confusions(label_set, bundle, bank)]
    ), True


def _always_won(label_set: LabelSet) -> set[str]:
    """Groups in which nothing stands for 'none of these'."""
    if label_set.background:
        return set()
    return {label.group for label in label_set.labels} - {
        label.group for label in label_set.labels if label.background
    }


def search(words: str, bundle_path: str | None, *, count: int = 10) -> str:
    """Names of the text bank that hold the words, then those that mean nearly the same."""
    bundle = load_bundle(find_bundle(bundle_path))
    bank = TextBank.from_bundle(bundle)
    key = bare(normalise(words))
    row = bank.find(words)
    spelt = sorted(
        (n for n in bank.names if key and key in normalise(n)), key=lambda n: (len(n), n)
    )[:count]
    lines = [
        f"{name}  ({bank.maker(found)})" for name in spelt if (found := bank.find(name)) is not None
    ]
    if row is not None:
        if name := bank.alias(words):
            lines.insert(0, f"'{words}' is '{name}'  ({bank.maker(row)})")
        rows = _centred(bank.rows.astype(np.float32), bank)
        cosines = rows @ rows[row]
        order = [i for i in np.argsort(-cosines, kind="stable") if i != row][:count]
        lines += [
            f"means nearly '{bank.names[row]}':",
            *(f"  {cosines[i]:.2f}  {bank.names[i]}" for i in order),
        ]
    if not lines:
        near = bank.nearest_names(words, count)
        hint = f"near it: {', '.join(near)}; " if near else ""
        lines = [
            f"'{words}' is not in the text bank; {hint}edge-label labels build estimates what a label set needs"
        ]
    return "\n".join(lines)


def sources(label_set: LabelSet, bundle: Bundle, bank: TextBank) -> dict[str, list[str]]:
    """Who made the rows of a set ("bank, exact", ...) -> the phrases that stand on them."""
    made: dict[str, list[str]] = {}
    for phrase in label_set.phrases(bundle.manifest.templates):
        row = bank.find(phrase)
        if row is not None:
            made.setdefault(bank.maker(row), []).append(phrase)
    return made


def _sources(label_set: LabelSet, bundle: Bundle, bank: TextBank) -> list[str]:
    made = sources(label_set, bundle, bank)
    lines = []
    for maker in sorted(made):
        lines.append(f"  {len(made[maker]):>5} phrases: {maker}")
        if maker != "bank, exact":
            lines += [f"    '{p}'" for p in made[maker][:_SHOWN]] + _rest(len(made[maker]))
    written = {p: name for said in made.values() for p in said if (name := bank.alias(p))}
    if written:
        lines.append("  the bank knows these under another spelling:")
        renamed = [f"    '{phrase}' is '{name}'" for phrase, name in written.items()]
        lines += renamed[:_SHOWN] + _rest(len(renamed))
    guessed = [p for maker, said in made.items() if "approximate" in maker for p in said]
    foreign = [
        p for p in guessed if not any(c.isascii() and c.isalpha() for c in bare(normalise(p)))
    ]
    if foreign:
        lines.append("  warning: the text encoder reads English; these rows are guesses:")
        lines += [f"    '{p}'" for p in foreign[:_SHOWN]] + _rest(len(foreign))
    return lines


def _confusions(label_set: LabelSet, bundle: Bundle, bank: TextBank) -> list[str]:
    """For each group, the pairs of labels that lie close, closest first."""
    compiled = compile_labels(label_set, bundle, bank)
    lines = []
    for title, low, high in (
        ("say the same; keep one of each pair:", SAME, 2.0),
        ("often taken for one another:", CLOSE, SAME),
    ):
        pairs, count = close_pairs(compiled, bank, low, high)
        if pairs:
            lines.append(f"  {title}")
            lines += [f"    {cosine:.2f}  {one} / {other}" for cosine, one, other in pairs] + _rest(
                count
            )
    return lines or [f"  all labels are well apart (no two of a group above {CLOSE})"]


def close_pairs(
    compiled: CompiledLabels, bank: TextBank, low: float, high: float
) -> tuple[list[tuple[float, str, str]], int]:
    """The closest (cosine, label, label) of one group with low <= cosine < high, and how many there are.

    By blocks, and only what is shown is kept: 10,000 labels may have millions of close pairs.
    """
    rows = _centred(compiled.matrix, bank)
    pairs: list[tuple[float, str, str]] = []
    count = 0
    for _, group in compiled.groups:
        members, names = rows[group], compiled.names[group]
        for start in range(0, len(members), 512):
            cosines = np.triu(members[start : start + 512] @ members[start:].T, 1)
            one, other = np.nonzero((cosines >= low) & (cosines < high))
            count += len(one)
            best = np.argsort(-cosines[one, other], kind="stable")[:_SHOWN]
            found = zip(
                cosines[one, other][best].tolist(),
                one[best].tolist(),
                other[best].tolist(),
                strict=True,
            )
            pairs += [(cosine, names[start + i], names[start + j]) for cosine, i, j in found]
            pairs = sorted(pairs, key=lambda pair: (-pair[0], pair[1], pair[2]))[:_SHOWN]
    return pairs, count


def _centred(rows: NDArray[np.float32], bank: TextBank) -> NDArray[np.float32]:
    """CLIP's text rows share a large mean that says nothing; without it cosines tell words apart."""
    moved = rows - bank.rows.mean(axis=0, dtype=np.float32)
    return np.asarray(
        moved / np.maximum(np.linalg.norm(moved, axis=1, keepdims=True), 1e-6), np.float32
    )


def _rest(count: int) -> list[str]:
    return [f"    and {count - _SHOWN} more"] if count > _SHOWN else []
