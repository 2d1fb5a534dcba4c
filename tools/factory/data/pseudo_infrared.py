"""Colour pictures as some thermal camera might have shown them: infrared to train on where there is
none.

A thermal picture differs from a grey one in ways that can be imitated without a thermal camera:

- Which of two materials is brighter cannot be predicted: a random mix of the channels and a random
  tone curve.
- The camera evens out large areas to keep contrast for edges: local gain control.
- The sensor is soft, noisy and striped by column.

No particular camera is imitated, so the student does not learn one.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

KNOTS = 5  # of the tone curve


def pseudo_infrared(picture: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    """(H, W, 3) uint8 -> (H, W) uint8, different at every draw.

    The order of the channels does not matter, because their weights are random.
    """
    grey = _stretch(picture.astype(np.float32) @ _mix(rng))
    side = max(grey.shape)

    if rng.random() < 0.7:
        large = cv2.GaussianBlur(grey, (0, 0), side * rng.uniform(0.04, 0.2))
        grey = _stretch(grey - rng.uniform(0.2, 0.8) * large)
    if rng.random() < 0.7:
        grey = _curve(grey, rng)
    if rng.random() < 0.7:
        grey = cv2.GaussianBlur(grey, (0, 0), side * rng.uniform(0.001, 0.008))

    # Stripes: each column of a thermal sensor has an amplifier of its own.
    noise = rng.uniform(0, 0.03) * rng.standard_normal(grey.shape, np.float32)
    stripes = rng.uniform(0, 0.015) * rng.standard_normal(grey.shape[1], np.float32)
    return np.rint(255 * np.clip(grey + noise + stripes, 0, 1)).astype(np.uint8)


def _mix(rng: np.random.Generator) -> NDArray[np.float32]:
    """Weights of the channels: plain grey, its negative, or a random direction."""
    if rng.random() < 0.3:
        return np.full(3, rng.choice((-1, 1)), np.float32)
    return rng.standard_normal(3, np.float32)


def _stretch(grey: NDArray[np.float32]) -> NDArray[np.float32]:
    """To 0 ... 1, with 1 % clipped at either end; a flat picture becomes 0."""
    # A quarter of the pixels gives almost the same percentiles in a quarter of the time.
    low, high = np.percentile(grey[::2, ::2], (1, 99))
    return np.clip((grey - low) / max(float(high - low), 1e-3), 0, 1)


def _curve(grey: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
    """A tone curve through random knots. It may fall in places: brighter is not always warmer."""
    knots = np.linspace(0, 1, KNOTS) + rng.uniform(-0.4, 0.4, KNOTS)
    table = np.interp(np.linspace(0, 1, 256), np.linspace(0, 1, KNOTS), knots).astype(np.float32)
    return _stretch(table[np.rint(255 * grey).astype(np.uint8)])
