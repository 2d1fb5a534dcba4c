"""What the stages train on: pictures, targets, pseudo-labels, activations of the frozen layers."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from edge_runtime.errors import ConfigError
from edge_runtime.model.encoder import open_session
from edge_runtime.records import Modality
from tools.factory.data.augment import apply_view, whole_picture
from tools.factory.edgevl.setting import Setting
from tools.factory.edgevl.statistics import CPU
from tools.factory.int8.export import INPUT
from tools.factory.int8.fake_quant import FakeQuantised
from tools.factory.teachers.texts import Texts
from tools.factory.training.materials import Materials, prepare
from tools.factory.training.stems import Stems, cache_stems


def stage1_materials(setting: Setting, cache: Path) -> Materials:
    """Everything that stage 1 reads; stage 2 only needs other activations.

    Raises ConfigError where the recipe stores no views.
    """
    recipe = setting.stage_recipe(setting.recipe.stage1)
    materials = prepare(recipe, setting.teacher, setting.data, cache, quiet=setting.quiet)
    materials = replace(materials, texts=_pseudo_labels(setting, materials))
    views = materials.targets.views
    if views is None:
        raise ConfigError(
            "views: must be at least 1", "the frozen layers' output of each is stored"
        )

    stems = cache_stems(
        setting.student, recipe, materials.cache, views, cache, CPU, quiet=setting.quiet
    )
    return replace(materials, stems=stems)


def _pseudo_labels(setting: Setting, materials: Materials) -> Texts:
    """The teacher's best label of every picture, among the labels of its source.

    Both halves of a pair get the same label, because their targets are the same.

    The triplets of stage 2 need several pictures of a label in a batch, so colour pictures without
    a partner are labelled as well.
    """
    recipe = setting.recipe
    files = [pair.labels for pair in recipe.pairs] + [recipe.colour_labels] * len(recipe.colour)
    first_row = {}
    rows = 0
    for file, superset in setting.supersets.items():
        first_row[file] = rows
        rows += len(superset.names)

    sources = np.array([sample.source for sample in materials.cache.samples])
    of_sample = np.full(len(sources), -1, np.int64)
    for number, file in enumerate(files):
        own = np.flatnonzero(sources == number)
        # The mean over the stored views is steadier than any one of them.
        seen = materials.targets.embeddings[:, own].astype(np.float32).mean(0)
        logits = seen @ setting.supersets[file].rows.T
        of_sample[own] = first_row[file] + logits.argmax(1)

    sets = list(setting.supersets.values())
    groups = [np.full(len(superset.names), number) for number, superset in enumerate(sets)]
    return replace(
        materials.texts,
        rows=np.concatenate([superset.rows for superset in sets]),
        names=[name for superset in sets for name in superset.names],
        groups=np.concatenate(groups),
        of_sample=of_sample,
    )


def calibration_pictures(
    setting: Setting, materials: Materials, *, held_out: bool
) -> list[NDArray[np.uint8]]:
    """The same number of pictures of each modality, each (1, S, S, 3) uint8."""
    pictures = materials.cache
    rng = np.random.default_rng((setting.recipe.seed, 8, held_out))
    by_modality: dict[Modality, list[int]] = {}
    for row in rng.permutation(len(pictures.samples)):
        sample = pictures.samples[row]
        if sample.held_out == held_out:
            by_modality.setdefault(sample.modality, []).append(int(row))

    share = setting.recipe.calibration // len(by_modality)
    chosen = [row for rows in by_modality.values() for row in rows[:share]]
    side = setting.start.input.size
    return [apply_view(pictures.pictures[row], whole_picture(), side)[None] for row in chosen]


def int8_stems(setting: Setting, materials: Materials, module: FakeQuantised, cache: Path) -> Stems:
    """Activations of the frozen layers of the int8 graph for every stored view.

    ONNX Runtime computes them, so they have the same bits as on the device. They are saved for the
    second training from the same int8 graph.
    """
    after = setting.recipe.frozen
    tensor = module.stem_of(after)
    model = module.cut(after)
    digest = hashlib.sha256(model).hexdigest()[:16]
    stored = cache / f"int8-stems-{digest}-{materials.cache.digest}.npy"
    if not stored.is_file():
        _run_frozen_layers(setting, materials, model, stored)

    values = np.load(stored, mmap_mode="r")
    scale = np.full(values.shape[2], tensor.scale, np.float32)
    return Stems(values, scale, 128 - tensor.zero)


def _run_frozen_layers(setting: Setting, materials: Materials, model: bytes, stored: Path) -> None:
    """Activations of every view of every training picture -> an .npy of int8."""
    session = open_session(model, 2, "the frozen layers")
    views = materials.targets.views
    samples = materials.cache.samples
    rows = [row for row, sample in enumerate(samples) if not sample.held_out]
    side = setting.start.input.size
    partial = stored.with_suffix(".partial.npy")

    values = None
    for plane, view_of in enumerate(views):
        title = f"frozen int8 layers, view {plane + 1}"
        for row in tqdm(rows, desc=title, unit="pic", disable=setting.quiet):
            shown = apply_view(materials.cache.pictures[row], view_of[row], side)
            activation = session.run(None, {INPUT: shown[None]})[0][0]
            if values is None:
                # The shape of an activation is known only now.
                shape = (len(views), len(samples), *activation.shape)
                values = np.lib.format.open_memmap(partial, "w+", np.int8, shape)
            # ONNX holds uint8 and the stems are int8; `offset` of Stems adds the 128 again.
            values[plane, row] = (activation.astype(np.int16) - 128).astype(np.int8)
    partial.replace(stored)
