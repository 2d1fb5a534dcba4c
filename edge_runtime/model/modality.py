"""Infrared and depth as 8-bit pictures, the same in training and on the camera.

Three questions are answered here and nowhere else: which modality a frame is, whether it can be
that, and how its numbers become grey levels. Geometry stays in ``preprocess.py``, which calls
``grey_levels`` on the small picture.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_runtime.errors import ConfigError, DataError
from edge_runtime.model.manifest import Manifest
from edge_runtime.records import Modality, WantedModality

# One percent of the readings at either end may saturate: one hot pixel must not grey out the rest.
_TAIL_PERCENT = 1.0
# Depth sensors write one or the other where no light came back.
_NO_READING = (0, 65535)
_MAX_METRES = 65.535  # what fits into 16 bits as millimetres

# What the frames of each kind can be; ``auto`` takes the first that the bundle was trained for.
_POSSIBLE: dict[str, tuple[Modality, ...]] = {
    "8-bit colour": ("rgb", "ir"),
    "8-bit grey": ("ir", "rgb"),
    "16-bit": ("depth", "ir"),
    "float": ("depth",),
}
_FORMS: dict[Modality, str] = {
    "rgb": "8-bit colour or grey",
    "ir": "8-bit, or 16-bit with one channel",
    "depth": "16-bit millimetres or float metres, one channel",
}


def resolve(modality: WantedModality, pixels: NDArray[Any], manifest: Manifest) -> Modality:
    """The modality of a decoded frame, as configured or, with ``auto``, by channels and dtype.

    8-bit colour is rgb. One 8-bit channel is ir where the bundle was trained for ir, else a grey
    rgb picture. One 16-bit channel is depth where the bundle was trained for depth, else ir. Floats
    are depth.

    Raises ConfigError when the frame cannot be of this modality, or the bundle was not trained for
    it.
    """
    kind = _kind(pixels)
    if modality == "auto":
        return _by_kind(kind, manifest)

    possible = _POSSIBLE.get(kind, ())
    if modality not in possible:
        raise ConfigError(
            f"--modality {modality}: the frames are {kind}, {modality} is {_FORMS[modality]}",
            f"try --modality {possible[0]}" if possible else "",
        )
    return modality


def _by_kind(kind: str, manifest: Manifest) -> Modality:
    possible = _POSSIBLE.get(kind, ())
    if not possible:
        raise ConfigError(f"frames of {kind} are not rgb, ir or depth", f"rgb is {_FORMS['rgb']}")

    trained = [modality for modality in possible if modality in manifest.input.modalities]
    modality = trained[0] if trained else possible[0]
    # Colour is never taken for infrared unless configured: a bundle for infrared alone would label
    # ordinary cameras, and mostly wrongly.
    if kind == "8-bit colour":
        modality = "rgb"

    check_trained(modality, manifest, f"{kind} frames are")
    return modality


def is_grey_photograph(modality: WantedModality, pixels: NDArray[Any], manifest: Manifest) -> bool:
    """True when a picture of 16 bits or floats is a grey photograph, to be reduced to 8 bits.

    It is one where rgb is configured, or the bundle was trained for rgb and for nothing else that
    such a picture could be.
    """
    if pixels.dtype == np.uint8 or modality not in ("auto", "rgb"):
        return False

    trained = manifest.input.modalities
    possible = _POSSIBLE.get(_kind(pixels), ())
    return "rgb" in trained and (modality == "rgb" or not set(possible) & set(trained))


def check_trained(modality: WantedModality, manifest: Manifest, why: str = "--modality") -> None:
    """Raise ConfigError when the bundle was not trained for a modality; ``auto`` always passes."""
    trained = manifest.input.modalities
    if modality != "auto" and modality not in trained:
        raise ConfigError(
            f"{why} {modality}, bundle {manifest.id} was trained for {', '.join(trained)} only",
            f"give a --bundle trained for {modality} (edge-label bundle info DIR shows it)",
        )


def grey_levels(pixels: NDArray[Any], modality: Modality) -> NDArray[np.uint8]:
    """One channel of infrared or depth, (H, W) -> uint8 (H, W), stretched over the picture's range.

    ir, uint8 or uint16: the 1st to 99th percentile becomes 0 ... 255. depth, uint16 millimetres or
    float metres: the same percentiles of the valid readings become 1 ... 255, near is dark. What
    has no reading (0, 65535, NaN, infinite, negative) is 0. A flat picture is 128 where it has
    readings.

    Raises DataError for any other dtype or shape.
    """
    if pixels.ndim != 2:
        raise DataError(
            f"{modality} frame of shape {pixels.shape}: must have one channel, (height, width)"
        )

    if modality == "depth":
        millimetres = _millimetres(pixels)
        valid = (millimetres != _NO_READING[0]) & (millimetres != _NO_READING[1])
        levels = _stretch(millimetres, millimetres[valid], 1)
        levels[~valid] = 0
        return levels

    if modality == "ir" and pixels.dtype in (np.uint8, np.uint16):
        return _stretch(pixels, pixels, 0)
    raise DataError(f"{modality} frame of {pixels.dtype}: must be {_FORMS[modality]}")


def _kind(pixels: NDArray[Any]) -> str:
    if pixels.dtype == np.uint8 and pixels.ndim in (2, 3):
        return "8-bit colour" if pixels.ndim == 3 else "8-bit grey"
    if pixels.ndim == 2 and pixels.dtype == np.uint16:
        return "16-bit"
    if pixels.ndim == 2 and np.issubdtype(pixels.dtype, np.floating):
        return "float"
    return f"{pixels.dtype} {pixels.shape}"


def _millimetres(pixels: NDArray[Any]) -> NDArray[np.uint16]:
    if pixels.dtype == np.uint16:
        return pixels
    if not np.issubdtype(pixels.dtype, np.floating):
        raise DataError(f"depth frame of {pixels.dtype}: must be {_FORMS['depth']}")

    metres = np.nan_to_num(pixels, nan=0.0, posinf=0.0, neginf=0.0)
    millimetres = np.rint(np.clip(metres, 0, _MAX_METRES) * 1000)
    return np.asarray(millimetres, np.uint16)


def _stretch(pixels: NDArray[Any], readings: NDArray[Any], floor: int) -> NDArray[np.uint8]:
    """Levels floor ... 255 over the percentiles of ``readings``; 128 where these span nothing."""
    if not readings.size:
        return np.zeros(pixels.shape, np.uint8)

    low, high = np.percentile(readings, (_TAIL_PERCENT, 100 - _TAIL_PERCENT))
    if high <= low:
        return np.full(pixels.shape, 128, np.uint8)

    slope = np.float32((255 - floor) / (high - low))
    levels = (pixels.astype(np.float32) - np.float32(low)) * slope
    # The half makes the cast to uint8, which cuts off, round to the nearest level.
    levels = np.clip(levels + np.float32(floor + 0.5), floor, 255)
    return np.asarray(levels, np.uint8)
