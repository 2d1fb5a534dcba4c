"""``edge-label labels learn``: teach a label set with pictures; ``labels forget``: take it back.

Pictures become embeddings here, one at a time, and the pictures of each group go to
``teaching.teach``. What comes of it is written beside the label set once all has succeeded.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge_runtime.commands.lesson import GroupLesson, Seen, digests_of, teach_group
from edge_runtime.commands.picture_cache import PictureCache
from edge_runtime.commands.progress import Progress
from edge_runtime.commands.taught_findings import held_out_sentence
from edge_runtime.commands.teaching_pictures import (
    TeachingPicture,
    choose_pictures,
    find_pictures,
)
from edge_runtime.config import ModelConfig
from edge_runtime.engine import Engine
from edge_runtime.errors import ConfigError, DataError, UsageError
from edge_runtime.labeller import Labeller
from edge_runtime.model.bundle import Bundle, find_bundle, load_bundle
from edge_runtime.model.labels.compiled import CompiledLabels, compile_labels, with_built_rows
from edge_runtime.model.labels.label_set import LabelSet, load_label_set
from edge_runtime.model.labels.new_rows import with_new_rows
from edge_runtime.model.labels.phrase_rows import (
    PhraseRows,
    refuse_other_file,
    remove_rows,
    rows_path,
)
from edge_runtime.model.labels.taught import METHOD, NONE, Teaching, encoder_digest
from edge_runtime.model.labels.text_bank import TextBank
from edge_runtime.system.digest import sha256_hex
from edge_runtime.system.files import read_capped
from edge_runtime.system.memory import release_memory
from edge_runtime.system.state import state_folder

log = logging.getLogger("edge_label")

MAX_PICTURE_BYTES = 256 << 20

_RELOAD = "a running edge-label takes it up on SIGHUP (systemctl reload edge-label)"


def learn(path: str, pictures: str, model: ModelConfig) -> str:
    """Teach the label set at ``path`` with a folder of pictures; returns what came of it.

    What was taught before is replaced. Raises UsageError for a set that ships, NoInputError for
    what does not exist, ConfigError for a set that is wrong, and DataError where the pictures
    cannot teach or the result cannot be written. The old file is then unchanged.
    """
    bundle = load_bundle(find_bundle(model.bundle))
    target = _target(path, bundle)
    label_set = load_label_set(path, bundle)
    words, mean_text = _words(path, label_set, bundle)

    found = find_pictures(Path(pictures), label_set)
    chosen = choose_pictures(found, words)
    seen = _encode(chosen, bundle, words, model)
    release_memory()  # the encoder is gone, and the fit needs room

    lessons = [GroupLesson(words, place, seen) for place in range(len(words.groups))]
    groups = [
        teach_group(lesson, label_set, bundle, mean_text) for lesson in lessons if lesson.can_teach
    ]
    lines = [lesson.why_not for lesson in lessons if lesson.why_not]
    if not groups:
        raise DataError(f"{pictures}: {lines[0]}", "the label set stays as it was")

    teaching = Teaching(METHOD, encoder_digest(bundle.manifest), digests_of(lessons), tuple(groups))
    _write(target, teaching, bundle)
    lines = [*_summary(path, teaching), *_said_twice(seen), *lines]
    return "\n".join([*lines, f"{target}: written; {_RELOAD}"])


def forget(path: str, labels: Sequence[str], bundle_path: str | None) -> str:
    """Take back what pictures taught: of all labels, or of those named; returns what was done.

    Raises UsageError for a label that was not taught, ConfigError for a damaged file, DataError
    where the file cannot be written.
    """
    bundle = load_bundle(find_bundle(bundle_path))
    target = _target(path, bundle)
    load_label_set(path, bundle)
    built = PhraseRows.read(target)
    if built is None or built.teaching is None:
        return f"{path}: no label was taught; nothing to forget"

    known = {name or "none": name for name in built.teaching.pictures}
    for label in labels:
        if label not in known:
            names = ", ".join(f"'{name}'" for name in known)
            raise UsageError(f"{path}: '{label}' was not taught", f"taught are {names}")

    forgotten = list(labels or known)
    left = built.teaching.without({known[label] for label in forgotten})
    if left or built.phrases:
        replace(built, teaching=left).write(target)
    else:
        remove_rows(target)
    return f"{path}: forgot {', '.join(forgotten)}; {_RELOAD}"


def _words(
    path: str, label_set: LabelSet, bundle: Bundle
) -> tuple[CompiledLabels, NDArray[np.float32]]:
    """The label set without pictures, and the mean text row (dim,). The bank is freed on return."""
    bank = TextBank.from_bundle(bundle)
    mean_text = bank.rows.mean(axis=0, dtype=np.float32)
    bank = with_new_rows(with_built_rows(bank, path, bundle), label_set, path, bundle)
    return compile_labels(label_set, bundle, bank), mean_text


def _target(path: str, bundle: Bundle) -> Path:
    """The file to write. Raises an error where that would fail after minutes of work."""
    if path in bundle.label_sets():
        raise UsageError(
            f"{path} ships with the bundle and cannot be taught",
            f"copy {bundle.path / 'labels' / path}.yaml and teach the copy",
        )

    target = rows_path(Path(path))
    refuse_other_file(target)
    folder = target.parent
    if folder.is_dir() and not os.access(folder, os.W_OK | os.X_OK):
        raise DataError(
            f"{folder}: this user may not write there, where {target.name} would go",
            "run this as its owner, or copy the label set to a folder of yours",
        )
    return target


def _encode(
    pictures: list[TeachingPicture], bundle: Bundle, words: CompiledLabels, model: ModelConfig
) -> list[Seen]:
    """Embed pictures, one at a time, those that were seen before from the cache.

    Pictures that cannot be read are named and left out. Raises DataError where that is all of them.
    """
    fed = f"{encoder_digest(bundle.manifest)}{model.modality}"
    cache = PictureCache(state_folder(), sha256_hex(fed.encode()), bundle.manifest.dim)
    encoder = _Encoder(bundle, words, model)
    progress = Progress("pictures", len(pictures))
    seen = []
    try:
        for picture in pictures:
            try:
                seen.append(_see(picture, encoder, cache))
            except (DataError, ConfigError) as error:
                log.warning("left out: %s", error.within(str(picture.path)))
            progress.step()
    finally:
        progress.close()
        cache.close()

    if not seen:
        raise DataError(
            f"none of the {len(pictures)} pictures can be read",
            "the lines above name each with its reason",
        )
    return seen


class _Encoder:
    """Embeds pictures as ``once`` does; the model is loaded when the first one asks for it."""

    def __init__(self, bundle: Bundle, words: CompiledLabels, model: ModelConfig) -> None:
        self._engine = (bundle, words, model)
        self._labeller: Labeller | None = None

    def __call__(self, path: Path) -> NDArray[np.float32]:
        if self._labeller is None:
            self._labeller = Labeller(Engine(*self._engine))
            release_memory()
        return self._labeller.embed(path)


def _see(picture: TeachingPicture, encoder: _Encoder, cache: PictureCache) -> Seen:
    """Raises DataError or ConfigError for a picture that cannot be labelled."""
    try:
        sha256 = sha256_hex(read_capped(picture.path, MAX_PICTURE_BYTES))
    except OSError as error:
        raise DataError(f"cannot be read: {error.strerror}") from error

    embedding = cache.get(sha256)
    if embedding is None:
        embedding = encoder(picture.path)
        if not np.isfinite(embedding).all():
            raise DataError("the encoder's answer is not finite", "leave the picture out")
        cache.put(sha256, embedding)
    return Seen(picture, embedding, sha256)


def _write(target: Path, teaching: Teaching, bundle: Bundle) -> None:
    built = PhraseRows.read(target)
    if built is None:
        built = PhraseRows.none(bundle.manifest.text_space, bundle.manifest.dim)
    replace(built, teaching=teaching).write(target)


def _summary(path: str, teaching: Teaching) -> list[str]:
    """How many pictures taught which groups, and what became of the held-out ones."""
    count = len({digest for digests in teaching.pictures.values() for digest in digests})
    labels = len(teaching.pictures.keys() - {NONE})
    taught = [f"{labels} label{'s' if labels > 1 else ''}"] if labels else []
    taught += ["'none of these'"] if NONE in teaching.pictures else []
    lines = [f"{path}: {count} pictures taught {' and '.join(taught)}"]
    groups = [f"  group {group.name}: {held_out_sentence(group)}" for group in teaching.groups]
    return [*lines, *groups]


def _said_twice(seen: list[Seen]) -> list[str]:
    """One line where pictures of labels are in none/ as well."""
    none = {one.sha256 for one in seen if NONE in one.picture.labels}
    both = {one.sha256 for one in seen if one.sha256 in none and NONE not in one.picture.labels}
    if not both:
        return []
    return [
        f"  {len(both)} pictures of labels are in none/ too: "
        "they show none of the labels of other groups"
    ]
