"""Ways to hold back the labels of strange views, for `tools.measure.strange_views`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from edge_runtime.model.labels.compiled import CompiledLabels, Rivals, compile_labels
from edge_runtime.model.labels.correction import Words
from edge_runtime.model.labels.label_set import load_label_set
from edge_runtime.model.labels.none_of_these import fit_none_alone, none_row
from edge_runtime.model.labels.scorer import Scorer
from edge_runtime.model.labels.text_bank import TextBank
from edge_runtime.model.strange import StrangeViews
from tools.factory.calibration.views import Views, fit_plane, limit_of
from tools.factory.teachers.teacher import unit
from tools.measure.strange_looks import Looks, joined
from tools.measure.strange_material import Bools, Material

NOTHING = "nothing refused"
WORDS = ("a wall", "a texture", "a poster", "a sky", "a ceiling", "a floor", "an empty photo")

# A way to hold nonsense back: (label set, pictures) -> the labels that are on (pictures, labels).
Way = Callable[[str, Looks], Bools]
Score = Callable[[str, Looks], NDArray[np.floating]]


def ways(material: Material) -> dict[str, Way]:
    """Every way by its name."""
    ordinary = Views(
        material.ordinary.embedding, _log(material.ordinary.contrast), material.weights
    )
    strange = joined(material.strange.values())
    kinds = [np.full(len(own.contrast), 1 / len(own.contrast)) for own in material.strange.values()]
    weights = np.concatenate(kinds)
    shown = Views(strange.embedding, _log(strange.contrast), weights)
    plane = fit_plane(ordinary, shown)
    # Where all contrasts are equal, the embedding decides alone.
    even, odd = (replace(own, contrasts=0 * own.contrasts) for own in (ordinary, shown))
    direction = fit_plane(even, odd).direction
    inside = fit_plane(
        replace(even, pictures=unit(material.ordinary.features)),
        replace(odd, pictures=unit(strange.features)),
    ).direction
    scores: dict[str, Score] = {
        "contrast": lambda _, looks: -looks.contrast,
        "contrast of large shapes": lambda _, looks: -looks.coarse,
        "likeness of places": lambda _, looks: looks.likeness,
        "distance (Mahalanobis)": _mahalanobis(material.ordinary.embedding),
        "energy of the labels": lambda name, looks: -_evidence(material, name, looks)[0],
        "best label": lambda name, looks: -_evidence(material, name, looks)[1],
        "best label less background": lambda name, looks: -_evidence(material, name, looks)[2],
        "direction in the features": lambda _, looks: unit(looks.features) @ inside,
        "direction in the embedding": lambda _, looks: looks.embedding @ direction,
        "the same and contrast": lambda _, looks: plane(looks.embedding, _log(looks.contrast)),
    }
    found: dict[str, Way] = {NOTHING: voting(material.sets)}
    found |= {name: refusing(material, score) for name, score in scores.items()}
    found["more background words"] = voting(with_words(material))
    found["none taught by pictures"] = voting(with_none(material, strange.embedding))
    shipped = StrangeViews.from_bundle(material.bundle)
    if shipped:
        found["the bundle's"] = _shipped(material, shipped)
    return found


def voting(sets: dict[str, CompiledLabels]) -> Way:
    """The votes of label sets."""
    scorers = {name: Scorer(labels) for name, labels in sets.items()}

    def votes(name: str, looks: Looks) -> Bools:
        scored = [scorers[name](embedding) for embedding in looks.embedding]
        return np.array([scores.votes for scores in scored if scores])

    return votes


def refusing(material: Material, score: Score) -> Way:
    """The votes of the sets that ship, but for views whose score is above a limit.

    Above it are 2 % of the ordinary views; labels of any view stay.
    """
    limits = {
        name: limit_of(score(name, material.ordinary), material.weights) for name in material.sets
    }
    return _without_refused(material, lambda name, looks: score(name, looks) > limits[name])


def _shipped(material: Material, is_strange: StrangeViews) -> Way:
    def refused(_: str, looks: Looks) -> Bools:
        pairs = zip(looks.embedding, looks.contrast.tolist(), strict=True)
        return np.array([is_strange(embedding, contrast) for embedding, contrast in pairs])

    return _without_refused(material, refused)


def _without_refused(material: Material, refused: Way) -> Way:
    """The votes of the sets that ship. `refused` says of each view whether it is, (pictures,)."""
    votes = voting(material.sets)

    def kept(name: str, looks: Looks) -> Bools:
        may_vote = ~refused(name, looks)[:, None] | material.sets[name].in_any_view
        return votes(name, looks) & may_vote

    return kept


def with_words(material: Material) -> dict[str, CompiledLabels]:
    """The sets with more background prompts, not calibrated anew."""
    bank = TextBank.from_bundle(material.bundle)
    sets = {}
    for name in material.sets:
        label_set = load_label_set(name, material.bundle)
        more = [word for word in WORDS if word not in label_set.background]
        label_set = replace(label_set, background=(*label_set.background, *more))
        sets[name] = compile_labels(label_set, material.bundle, bank)
    return sets


def with_none(material: Material, strange: NDArray[np.float32]) -> dict[str, CompiledLabels]:
    """The sets with 'none of these' in every group, taught by the strange views that fit.

    It is what `edge-label labels learn` makes of a folder `none` alone.
    """
    mean_text = TextBank.from_bundle(material.bundle).rows.astype(np.float64).mean(axis=0)
    sets = {}
    for name, labels in material.sets.items():
        matrix = labels.matrix
        rivals: list[Rivals] = []
        for (_, rows), scale, own in zip(labels.groups, labels.scales, labels.rivals, strict=True):
            texts = labels.matrix[rows]
            first = none_row(texts, labels.matrix[list(own.rows)])
            biases = np.append(labels.biases[rows], 0.0).astype(np.float64)
            words = Words(np.vstack([texts, first]).astype(np.float64), biases, scale)
            row, bias = fit_none_alone(words, strange.astype(np.float64), mean_text)
            rivals.append(
                Rivals((*own.rows, len(matrix)), (*own.scales, scale), (*own.biases, bias))
            )
            matrix = np.vstack([matrix, row]).astype(np.float32)
        sets[name] = replace(labels, matrix=matrix, rivals=tuple(rivals))
    return sets


def _evidence(
    material: Material, name: str, looks: Looks
) -> tuple[NDArray[np.floating], NDArray[np.floating], NDArray[np.floating]]:
    """(energy, highest label, highest label less highest background prompt), each (pictures,)."""
    labels = material.sets[name]
    logits = material.bundle.manifest.logit_scale * looks.embedding @ labels.matrix.T
    own = logits[:, : len(labels.names)]
    highest = own.max(axis=1)
    energy = highest + np.log(np.exp(own - highest[:, None]).sum(axis=1))
    return energy, highest, highest - logits[:, len(labels.names) :].max(axis=1)


def _mahalanobis(pictures: NDArray[np.float32]) -> Score:
    mean = pictures.mean(axis=0)
    covariance = np.cov(pictures.T) + 1e-4 * np.eye(pictures.shape[1])
    inverse = np.linalg.inv(covariance)

    def distance(_: str, looks: Looks) -> NDArray[np.floating]:
        beyond = looks.embedding - mean
        return np.einsum("ij,jk,ik->i", beyond, inverse, beyond)

    return distance


def _log(contrast: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.log(np.maximum(contrast, 1))
