"""The direction of strange views: fitted on pictures of a bundle's encoder, written into it.

A plain logistic regression on embeddings tells views that show nothing (walls, noise, bare ground)
from ordinary pictures. Its weights, made unit norm, are a direction; the limit is the cosine above
which so small a share of ordinary pictures lies (`REFUSED`). That strange pictures at hand teach
about others is the idea of outlier exposure (Hendrycks et al., ICLR 2019).
"""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from edge_runtime.camera.pictures import read_picture
from edge_runtime.errors import NoInputError
from edge_runtime.model.bundle import Bundle, load_bundle
from edge_runtime.model.manifest import ENCODER
from edge_runtime.model.preprocess import Preprocessor, contrast_of
from edge_runtime.model.strange import DIRECTION
from tools.factory.bundling.files import update_bundle
from tools.factory.data.entries import condition_pictures, evenly, matching, rgb
from tools.factory.data.samples import is_held_out
from tools.factory.data.strange import DRAWN, MADE, Picture, smoothest_window
from tools.factory.evaluation.embedding_cache import CachedEncoder
from tools.factory.evaluation.subject import PictureEncoder
from tools.lib.paths import RECIPES

Entry = str | dict[str, str | float]  # of strange_views.yaml: a glob, or what to draw or make
Recipe = dict[str, Any]  # strange_views.yaml: `ordinary` and `strange` entries by kind
Floats = NDArray[np.float64]
# A picture -> its embedding and the logarithm of its contrast.
See = Callable[[Picture], tuple[NDArray[np.float32], float]]

MEASURING = 0.5  # share of the files that fit nothing
REFUSED = 0.02  # of the ordinary pictures
CONTRAST = 3.0  # how freely its weight moves, beside those of the embedding
STRENGTH = 0.025  # of the penalty on the weights; ten times more or less hardly matters
MAX_STEPS = 30
PRECISE = 1e-6


@dataclass(frozen=True)
class Views:
    """Embeddings (pictures, dim), log contrasts (pictures,), and what each picture counts."""

    pictures: NDArray[np.float32]
    contrasts: NDArray[np.float32]
    weights: Floats

    @classmethod
    def joined(cls, parts: list[Views]) -> Views:
        """All of them, one after the other."""
        return cls(
            np.concatenate([part.pictures for part in parts]),
            np.concatenate([part.contrasts for part in parts]),
            np.concatenate([part.weights for part in parts]),
        )


def calibrate_views(folder: Path, data: Path, *, most: int, cache: Path, write: bool) -> str:
    """Fit the direction and its limit; what was fitted, as lines. Only `write` changes the bundle.

    Args:
        folder: the bundle.
        data: the folder in which distill and second lie.
        most: pictures a kind of the recipe.
        cache: folder of kept embeddings.
    """
    bundle = load_bundle(folder)
    recipe = read_recipe()
    with CachedEncoder(bundle, cache) as encode:
        see = seeing(bundle, encode)
        ordinary = ordinary_views(see, recipe, data, most)
        strange = strange_views(see, recipe, data, most)

    plane = fit_plane(ordinary, strange)
    found = float(strange.weights[plane(strange.pictures, strange.contrasts) > plane.limit].sum())
    lines = [
        f"Fitted on {len(ordinary.pictures)} ordinary and {len(strange.pictures)} strange views: "
        f"contrast {plane.contrast}, limit {plane.limit}, above which {REFUSED:.0%} of the "
        f"ordinary and {found / strange.weights.sum():.0%} of the strange ones lie."
    ]
    if write:
        data_of_row = io.BytesIO()
        np.save(data_of_row, plane.direction[None].astype(np.float16))
        encoder, _ = bundle.manifest.files[ENCODER]
        facts = {"contrast": plane.contrast, "limit": plane.limit, "encoder": encoder}
        facts |= {"refused": REFUSED, "most": most}
        update_bundle(bundle, {DIRECTION: data_of_row.getvalue()}, {"strange_views": facts})
        lines.append(f"{folder}: {DIRECTION} and its limit written")
    return "\n".join(lines)


def seeing(bundle: Bundle, encode: PictureEncoder) -> See:
    """A function from a picture to its embedding and the logarithm of its contrast."""
    prepare = Preprocessor(bundle.manifest.input)
    nhwc = bundle.manifest.input.layout == "NHWC"

    def see(picture: Picture) -> tuple[NDArray[np.float32], float]:
        batch = prepare(picture)
        contrast = contrast_of(batch[0] if nhwc else batch[0, 1])
        return encode(picture), math.log(max(contrast, 1.0))

    return see


def read_recipe() -> Recipe:
    """strange_views.yaml."""
    import yaml

    recipe: Recipe = yaml.safe_load((RECIPES / "strange_views.yaml").read_text(encoding="utf-8"))
    return recipe


def ordinary_views(see: See, recipe: Recipe, data: Path, most: int) -> Views:
    """The ordinary pictures that fit. A kind counts by the square root of its pictures: a large one
    more than a small one, but not so much more."""
    kinds = tqdm(recipe["ordinary"].values(), desc="ordinary", unit="kind", leave=False)
    parts = [embed_views(see, entries, data, most) for entries in kinds]
    return Views.joined(
        [Views(*part, np.full(len(part[1]), 1 / np.sqrt(len(part[1])))) for part in parts]
    )


def strange_views(see: See, recipe: Recipe, data: Path, most: int) -> Views:
    """The strange pictures that fit. Every kind counts the same."""
    kinds = tqdm(recipe["strange"].values(), desc="strange", unit="kind", leave=False)
    parts = [embed_views(see, entries, data, most) for entries in kinds]
    return Views.joined([Views(*part, np.full(len(part[1]), 1 / len(part[1]))) for part in parts])


def embed_views(
    see: See, entries: list[Entry], data: Path, most: int
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Embeddings (pictures, dim) and log contrasts (pictures,) of a kind, at most so many that fit.

    Raises NoInputError for an entry without pictures.
    """
    rows: list[tuple[NDArray[np.float32], float]] = []
    share = max(1, most // len(entries))
    for entry in entries:
        before = len(rows)
        rows += [see(picture) for picture in pictures_of_view(entry, data, share, measuring=False)]
        if len(rows) == before:
            raise NoInputError(
                f"{data}: no pictures for {entry} of strange_views.yaml",
                "unpack distill.zip and second.zip there",
            )
    embeddings, contrasts = zip(*rows, strict=True)
    return np.stack(embeddings), np.array(contrasts, np.float32)


def pictures_of_view(entry: Entry, data: Path, most: int, measuring: bool) -> Iterator[Picture]:
    """BGR pictures of one entry. Drawn ones have a number; the same number is the same picture."""
    if isinstance(entry, dict) and "drawn" in entry:
        first = most if measuring else 0
        for number in range(first, first + most):
            yield DRAWN[str(entry["drawn"])](np.random.default_rng(number))
        return

    chosen = evenly(_files(entry, data, measuring), most)
    if isinstance(entry, dict) and "condition" in entry:
        yield from condition_pictures(chosen, str(entry["condition"]))
        return

    for number, file in enumerate(chosen):
        photograph = np.ascontiguousarray(rgb(read_picture(file))[..., ::-1])
        if isinstance(entry, str):
            yield photograph
        elif "made" in entry:
            yield MADE[str(entry["made"])](photograph, np.random.default_rng(number))
        else:
            window = smoothest_window(photograph, float(entry["smooth"]))
            if window is not None:
                yield window


def _files(entry: Entry, data: Path, measuring: bool) -> list[Path]:
    """What the encoder's training held out is in the half that measures: it is the same draw."""
    pattern = entry if isinstance(entry, str) else str(entry["of"])
    return [
        file
        for file in matching(pattern, data)
        if is_held_out(file.relative_to(data).as_posix(), MEASURING) == measuring
    ]


@dataclass(frozen=True)
class Plane:
    """What `model.strange` goes by: a unit direction (dim,), a factor of log contrast, a limit."""

    direction: NDArray[np.float32]
    contrast: float
    limit: float

    def __call__(
        self, pictures: NDArray[np.float32], contrasts: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        """How strange pictures are, (pictures,)."""
        return np.asarray(pictures @ self.direction + self.contrast * contrasts, np.float32)


def fit_plane(ordinary: Views, strange: Views) -> Plane:
    """Ordinary and strange views count the same in all.

    The direction has been rounded to float16, as the bundle keeps it, before the limit is set.
    """
    both = Views.joined([ordinary, strange])
    is_strange = np.repeat([0.0, 1.0], [len(ordinary.pictures), len(strange.pictures)])
    shares = [views.weights / views.weights.sum() / 2 for views in (ordinary, strange)]

    # Entries of a unit vector are small. Scaled, an ordinary penalty means the same in every space.
    scale = np.sqrt(both.pictures.shape[1])
    spread = float(ordinary.contrasts.std()) or 1.0
    plain = CONTRAST * (both.contrasts - ordinary.contrasts.mean()) / spread
    weights = _logistic(
        np.column_stack([both.pictures * scale, plain]).astype(np.float64),
        is_strange,
        np.concatenate(shares),
    )

    length = np.linalg.norm(weights[:-1])
    direction = (weights[:-1] / length).astype(np.float16).astype(np.float32)
    contrast = round(float(weights[-1] * CONTRAST / spread / (length * scale)), 5)
    scores = Plane(direction, contrast, 0.0)(ordinary.pictures, ordinary.contrasts)
    return Plane(direction, contrast, round(limit_of(scores, ordinary.weights), 5))


def limit_of(scores: NDArray[np.floating], weights: Floats) -> float:
    """The score above which `REFUSED` of the ordinary pictures lie, as these weights count them."""
    order = np.argsort(-scores)
    passed = np.cumsum(weights[order]) / weights.sum()
    return float(scores[order[np.searchsorted(passed, REFUSED)]])


def _logistic(features: Floats, truth: Floats, shares: Floats) -> Floats:
    """The weights (features,) of least loss, by Newton's method; the constant is not returned."""
    scaled = np.hstack([features, np.ones((len(features), 1))])
    penalty = np.full(scaled.shape[1], STRENGTH)
    penalty[-1] = 0

    weights = np.zeros(scaled.shape[1])
    for _ in range(MAX_STEPS):
        chance = 1 / (1 + np.exp(-scaled @ weights))
        gradient = scaled.T @ (shares * (chance - truth)) + penalty * weights
        curvature = (scaled.T * (shares * chance * (1 - chance))) @ scaled + np.diag(penalty)
        step = np.linalg.solve(curvature, gradient)
        weights -= step
        if np.abs(step).max() < PRECISE:
            break
    return weights[:-1]
