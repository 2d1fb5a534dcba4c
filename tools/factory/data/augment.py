"""Augmentation in two steps: `draw` decides, `apply_view` does.

A view's parameters are a plain record, so a teacher's embedding can be stored beside the parameters
of the view it was made from and the same view be shown to the student later (MobileCLIP, Vasu et
al. 2024, section 3.1). Every draw is keyed by (seed, pass, picture): nothing depends on order or
threads, so a run resumes exactly.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from tools.factory.data.conditions import CONDITIONS, NAMES, Picture
from tools.factory.recipe import AugmentRecipe

# A stored field: its order and types are part of the targets on disk, so only append.
VIEW = np.dtype(
    [
        ("box", np.float32, 4),  # left, top, width, height as shares of the picture
        ("flip", np.bool_),
        ("gain", np.float32, 3),  # by channel; brightness and white balance
        ("contrast", np.float32),  # below zero: a negative
        ("gamma", np.float32),
        ("saturation", np.float32),  # 0 is grey
        ("small", np.int16),  # side in pixels to scale down to; 0 leaves it
        ("jpeg", np.int8),  # quality to compress with, at the small size if any; 0 for none
        ("condition", np.int8),  # index into conditions.NAMES; 0 is clear
        ("strength", np.float32),
        ("noise", np.float32),  # standard deviation, in 0 ... 255
        ("erase", np.float32, 4),  # a grey box; width 0 for none
        ("seed", np.uint32),  # of whatever is random in condition and noise
    ]
)
# How a small view is scaled up again, drawn by its seed; linear is usual, so it stands twice.
_INTERPOLATIONS = (cv2.INTER_LINEAR, cv2.INTER_CUBIC, cv2.INTER_LINEAR, cv2.INTER_NEAREST)
# Weaker noise than this, in 0 ... 255, hardly changes a uint8, and drawing it costs time.
_LEAST_NOISE = 0.5


def whole_picture() -> np.void:
    """The view that changes nothing."""
    view = np.zeros((), VIEW)
    view["box"] = (0, 0, 1, 1)
    view["gain"] = view["contrast"] = view["gamma"] = view["saturation"] = 1
    return view[()]


def draw(key: tuple[int, ...], recipe: AugmentRecipe, size: int, *, conditions: bool) -> np.void:
    """Parameters of one view, the same for the same key.

    Args:
        key: non-negative numbers, e.g. (seed, epoch, picture).
        size: side of the view in pixels; bounds how small a view may be scaled.
        conditions: whether this picture may get a synthetic camera condition.
    """
    # All numbers are drawn at once, used or not: a recipe that switches one thing off leaves every
    # other draw as it was.
    rng = np.random.default_rng(key)
    u = rng.random(26, np.float32)
    view = np.zeros((), VIEW)

    # Area is uniform, aspect ratio uniform in its logarithm: 1:2 is as likely as 2:1.
    area = recipe.scale[0] + (recipe.scale[1] - recipe.scale[0]) * u[0]
    shape = np.sqrt(np.exp((2 * u[1] - 1) * np.log(recipe.aspect)))
    width = min(1.0, np.sqrt(area) * shape)
    height = min(1.0, np.sqrt(area) / shape)
    view["box"] = ((1 - width) * u[2], (1 - height) * u[3], width, height)
    view["flip"] = u[4] < recipe.flip_probability

    # One brightness for all channels, and a weaker factor for each: white balance.
    c = recipe.colour
    view["gain"] = (1 + c * (2 * u[5] - 1)) * (1 + 0.3 * c * (2 * u[6:9] - 1))
    view["contrast"] = 1 + c * (2 * u[9] - 1)
    view["gamma"] = np.exp(c * (2 * u[10] - 1))
    view["saturation"] = 0 if u[11] < recipe.grey_probability else 1 + c * (2 * u[12] - 1)

    if u[13] < recipe.small_probability and recipe.small < size:
        view["small"] = round(np.exp(np.log(recipe.small) + u[14] * np.log(size / recipe.small)))
    if conditions and u[15] < recipe.conditions:
        view["condition"] = 1 + int(u[16] * len(CONDITIONS)) % len(CONDITIONS)
        view["strength"] = u[17]
        # The condition decides the exposure.
        view["gain"] = 1
        view["contrast"] = 1
        view["gamma"] = 1

    # The square makes weak noise more frequent than strong noise.
    view["noise"] = recipe.noise * u[18] ** 2
    if u[19] < recipe.erase_probability:
        w = 0.15 + 0.3 * u[20]
        h = 0.15 + 0.3 * u[21]
        view["erase"] = ((1 - w) * u[22], (1 - h) * u[23], w, h)
    if u[24] < recipe.jpeg_probability:
        view["jpeg"] = 25 + int(70 * u[25])

    view["seed"] = rng.integers(1 << 32)
    return view[()]


def monochrome(view: np.void, *, negative: bool) -> np.void:
    """The view for a picture of one channel: the same crop and no colour cast.

    negative: show what was bright as dark. In infrared, which of two things is warmer depends on
    the hour.
    """
    out = np.array(view, VIEW)
    out["gain"] = view["gain"].mean()
    out["saturation"] = 1
    if negative:
        out["contrast"] = -view["contrast"]
    return out[()]


def geometry_of(view: np.void) -> np.void:
    """The same crop and flip, nothing else."""
    plain = whole_picture()
    plain["box"] = view["box"]
    plain["flip"] = view["flip"]
    return plain


def apply_view(picture: Picture, view: np.void, size: int) -> Picture:
    """Show `picture` (S, S, 3) uint8 RGB as `view` says: (size, size, 3) uint8 RGB."""
    out = _crop(picture, view, size)

    # Seeding a generator takes time, and most views need none.
    rng = None
    if view["condition"] or view["noise"] > _LEAST_NOISE:
        rng = np.random.default_rng(int(view["seed"]))
    if rng is not None and view["condition"]:
        out = CONDITIONS[NAMES[view["condition"]]](out, float(view["strength"]), rng)
    out = _colour(out, view)

    if view["erase"][2] > 0:
        left, top, width, height = (round(float(v) * size) for v in view["erase"])
        out = out.copy()
        out[top : top + height, left : left + width] = 128
    if view["jpeg"] and not view["small"]:
        out = _compress(out, int(view["jpeg"]))
    if rng is not None and view["noise"] > _LEAST_NOISE:
        # One field for all channels, of half the height, costs a tenth of three whole ones and
        # looks the same to a network.
        field = rng.standard_normal((size // 2, size), np.float32)
        noise = cv2.resize(field, (size, size)) * view["noise"]
        out = np.clip(out + noise[..., None], 0, 255).astype(np.uint8)
    return out


def _crop(picture: Picture, view: np.void, size: int) -> Picture:
    """The view's box at (size, size), by way of the small size where the view has one."""
    side = picture.shape[0]
    left, top, width, height = (float(v) * side for v in view["box"])
    x0 = int(left)
    y0 = int(top)
    x1 = max(x0 + 2, round(left + width))
    y1 = max(y0 + 2, round(top + height))
    crop = picture[y0:y1, x0:x1]

    if view["small"]:
        small = int(view["small"])
        crop = cv2.resize(crop, (small, small), interpolation=cv2.INTER_AREA)
        crop = _compress(crop, int(view["jpeg"]))
        interpolation = _INTERPOLATIONS[int(view["seed"]) % len(_INTERPOLATIONS)]
        out = cv2.resize(crop, (size, size), interpolation=interpolation)
    elif crop.shape[:2] == (size, size):
        out = crop
    else:
        # The mean over areas is slower, and only needed where linear interpolation would alias.
        shrinks = crop.shape[0] > 1.5 * size
        interpolation = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
        out = cv2.resize(crop, (size, size), interpolation=interpolation)
    return cv2.flip(out, 1) if view["flip"] else np.ascontiguousarray(out)


def _compress(picture: Picture, quality: int) -> Picture:
    """Encode as JPEG and decode again.

    Small pictures suffer most: a block of 8 pixels is a quarter of a picture of 32.
    """
    if not quality:
        return picture
    _, encoded = cv2.imencode(".jpg", picture, (cv2.IMWRITE_JPEG_QUALITY, quality))
    # OpenCV takes RGB for BGR here, both ways, so the order comes out as it went in.
    return cv2.imdecode(encoded, cv2.IMREAD_COLOR)


def _colour(picture: Picture, view: np.void) -> Picture:
    """Saturation, then one tone curve by channel; changes too small to see are skipped."""
    saturation = float(view["saturation"])
    if abs(saturation - 1) > 0.02:
        grey = cv2.cvtColor(cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
        picture = cv2.addWeighted(picture, saturation, grey, 1 - saturation, 0)

    gain = view["gain"]
    contrast = float(view["contrast"])
    gamma = float(view["gamma"])
    if np.abs(gain - 1).max() > 0.01 or abs(contrast - 1) > 0.01 or abs(gamma - 1) > 0.01:
        x = np.arange(256, dtype=np.float32) / 255
        curve = (np.power(x, gamma)[:, None] * gain - 0.5) * contrast + 0.5
        picture = cv2.LUT(picture, np.clip(curve * 255, 0, 255).astype(np.uint8)[None])
    return picture


def stack_views(
    pictures: NDArray[np.uint8], rows: NDArray[np.int64], views: NDArray[np.void], size: int
) -> Picture:
    """Views of the given rows of the picture cache: (B, size, size, 3) uint8 RGB."""
    out = np.empty((len(rows), size, size, 3), np.uint8)
    for i, row in enumerate(rows):
        out[i] = apply_view(pictures[row], views[i], size)
    return out
