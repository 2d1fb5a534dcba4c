"""Views that show nothing a label could be right about, drawn or made of photographs.

A camera that points at a wall, at the sky or at the ground, with a hand over its lens or a broken
sensor, is in no set of pictures that is at hand. ``DRAWN`` makes such views from a number, ``MADE``
from a photograph; the same number gives the same picture. Every picture is uint8 BGR.
"""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
from numpy.typing import NDArray

from tools.factory.data.conditions import smooth_noise

Picture = NDArray[np.uint8]  # (H, W, 3) BGR
Plane = NDArray[np.float32]  # (H, W)
Random = np.random.Generator

HEIGHT = 240
WIDTH = 320
SMOOTH = 12.0  # grey levels a pixel; the steepest place of a window that counts as a bare surface


def wall(rng: Random) -> Picture:
    """One painted colour under uneven light, with some plaster."""
    hsv = [rng.integers(180), rng.integers(0, 120), rng.integers(70, 240)]
    colour = cv2.cvtColor(np.uint8([[hsv]]), cv2.COLOR_HSV2BGR)[0, 0].astype(np.float32)
    light = 1 + rng.uniform(0.1, 0.6) * _slope(rng) + rng.uniform(0, 0.3) * _cloudy(rng, 3)
    plaster = rng.uniform(0, 14) * _cloudy(rng, int(rng.integers(60, 200)))
    return _photographed(colour * light[..., None] + plaster[..., None], rng.uniform(1, 6), rng)


def sky(rng: Random) -> Picture:
    """Blue or grey, brighter at the horizon, with clouds."""
    top = rng.uniform((150, 100, 50), (230, 170, 120))
    if rng.random() < 0.4:
        top = np.full(3, rng.uniform(140, 230))
    down = np.linspace(0, 1, HEIGHT)[:, None, None]
    ground = top + rng.uniform(0.2, 1) * (np.array([245, 235, 220]) - top)
    picture = top * (1 - down) + ground * down + np.zeros((HEIGHT, WIDTH, 3))

    clouds = sum(_cloudy(rng, 2**k) / 2**k for k in range(2, 7))
    veil = np.clip(4 * clouds + rng.uniform(-0.5, 0.5), 0, 1) * rng.uniform(0, 0.9)
    picture += veil[..., None] * (248 - picture)
    return _photographed(picture, rng.uniform(1, 5), rng)


def hand(rng: Random) -> Picture:
    """Skin of any shade out of focus, with or without light between the fingers."""
    shade = rng.choice(
        [[80, 110, 190], [60, 85, 150], [40, 60, 110], [110, 140, 215], [30, 45, 80]]
    )
    light = 0.8 + 0.9 * _cloudy(rng, 3) + 0.5 * _slope(rng)
    picture = rng.uniform(0.15, 1.1) * shade * np.clip(light, 0.02, None)[..., None]

    for _ in range(rng.integers(0, 4)):
        y, x = np.mgrid[0:HEIGHT, 0:WIDTH]
        angle = rng.uniform(-0.4, 0.4)
        away = (x - rng.uniform(0, WIDTH)) * np.cos(angle) + (y - HEIGHT / 2) * np.sin(angle)
        gap = np.exp(-((away / rng.uniform(3, 16)) ** 2))[..., None]
        picture += gap * (rng.choice([rng.uniform(0, 30), rng.uniform(120, 255)]) - picture)

    blurred = cv2.GaussianBlur(picture.astype(np.float32), (0, 0), rng.uniform(4, 14))
    return _photographed(blurred, rng.uniform(2, 10), rng)


def noise(rng: Random) -> Picture:
    """What a broken sensor or a lost signal shows."""
    kind = rng.integers(5)
    if kind == 0:
        return _bytes(rng.uniform(0, 255, (HEIGHT, WIDTH, 3)))
    if kind == 1:
        return _bytes(np.repeat(rng.uniform(0, 255, (HEIGHT, WIDTH, 1)), 3, axis=2))
    if kind == 2:
        level = rng.uniform(20, 200)
        return _bytes(level + rng.normal(0, rng.uniform(15, 60), (HEIGHT, WIDTH, 3)))

    # Streaks along the rows, or blocks as of a broken video.
    cells = int(rng.integers(4, 40))
    shape = (HEIGHT, WIDTH // 4, 3) if kind == 3 else (cells, cells, 3)
    coarse = rng.uniform(0, 255, shape).astype(np.float32)
    return _bytes(cv2.resize(coarse, (WIDTH, HEIGHT), interpolation=cv2.INTER_LINEAR))


def asphalt(rng: Random) -> Picture:
    """Grey ground from above, with stains and cracks."""
    level = rng.uniform(60, 150)
    ground = np.full((HEIGHT, WIDTH), level, np.float32)
    for cells, depth in ((3, (4, 20)), (12, (2, 10)), (120, (3, 16))):
        ground += 2 * rng.uniform(*depth) * _cloudy(rng, cells)
    ground += rng.normal(0, rng.uniform(2, 14), ground.shape)
    ground *= 1 + rng.uniform(0, 0.4) * _slope(rng)

    picture = _bytes(ground[..., None] * (1 + rng.normal(0, 0.02, 3)))
    for _ in range(rng.integers(0, 3)):
        crack = np.cumsum(rng.normal(0, 25, (8, 2)), axis=0) + rng.random(2) * (WIDTH, HEIGHT)
        dark = (int(level / 2),) * 3
        cv2.polylines(picture, [crack.astype(np.int32)], False, dark, 1, cv2.LINE_AA)
    return picture


def page(rng: Random) -> Picture:
    """Printed lines of letters."""
    picture = np.full((HEIGHT, WIDTH, 3), rng.uniform(200, 255), np.uint8)
    size = rng.uniform(0.25, 0.7)
    for y in range(int(rng.integers(8, 25)), HEIGHT, max(8, int(34 * size))):
        letters = "".join(chr(c) for c in rng.choice([32, *range(97, 123)], 60))
        cv2.putText(picture, letters, (15, y), 0, size, (30, 30, 30), 1, cv2.LINE_AA)
    return picture


def out_of_focus(photograph: Picture, rng: Random) -> Picture:
    """A photograph of which nothing but colours can be made out."""
    small = cv2.resize(photograph, (WIDTH, HEIGHT)).astype(np.float32)
    blurred = cv2.GaussianBlur(small, (0, 0), rng.uniform(10, 30))
    return _photographed(blurred, rng.uniform(0, 3), rng)


def outlines(photograph: Picture, rng: Random) -> Picture:
    """The edges of a photograph, black on white, as in a line drawing."""
    grey = cv2.cvtColor(cv2.resize(photograph, (WIDTH, HEIGHT)), cv2.COLOR_BGR2GRAY)
    edges = 255 - cv2.Canny(cv2.GaussianBlur(grey, (0, 0), 1.5), 30, 90)
    if rng.random() < 0.5:
        edges = cv2.erode(edges, np.ones((2, 2), np.uint8))
    return _bytes(cv2.cvtColor(cv2.GaussianBlur(edges, (3, 3), 0), cv2.COLOR_GRAY2BGR))


DRAWN: dict[str, Callable[[Random], Picture]] = {
    "wall": wall,
    "sky": sky,
    "hand": hand,
    "noise": noise,
    "asphalt": asphalt,
    "page": page,
}
MADE: dict[str, Callable[[Picture, Random], Picture]] = {
    "out of focus": out_of_focus,
    "outlines": outlines,
}


def smoothest_window(photograph: Picture, part: float = 1.0) -> Picture | None:
    """The smoothest square of the upper ``part`` of a photograph: a wall indoors, the sky outdoors.

    Its side is two fifths of the shorter side. None where even that square is not smooth.
    """
    height, width = photograph.shape[:2]
    side = min(height, width) * 2 // 5
    grey = cv2.cvtColor(photograph, cv2.COLOR_BGR2GRAY).astype(np.float32)
    steepness = np.hypot(cv2.Sobel(grey, -1, 1, 0), cv2.Sobel(grey, -1, 0, 1)) / 8

    step = max(1, side // 3)
    rows = range(0, max(1, int(height * part) - side + 1), step)
    places = [(y, x) for y in rows for x in range(0, width - side + 1, step)]
    steepest = [np.percentile(steepness[y : y + side, x : x + side], 97) for y, x in places]
    best = int(np.argmin(steepest))
    if steepest[best] > SMOOTH:
        return None
    y, x = places[best]
    return photograph[y : y + side, x : x + side]


def _cloudy(rng: Random, cells: int) -> Plane:
    """Smooth values around 0, from -0.5 to 0.5."""
    return smooth_noise(rng, HEIGHT, WIDTH, cells) - np.float32(0.5)


def _slope(rng: Random) -> Plane:
    """Values that rise evenly in one direction, from about -0.7 to 0.7."""
    angle = rng.uniform(0, 2 * np.pi)
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH]
    slope = np.cos(angle) * (x / WIDTH - 0.5) + np.sin(angle) * (y / HEIGHT - 0.5)
    return np.asarray(slope, np.float32)


def _photographed(light: NDArray[np.floating], spread: float, rng: Random) -> Picture:
    """With the noise of a sensor of this standard deviation."""
    return _bytes(light + rng.normal(0, spread, light.shape))


def _bytes(values: NDArray[np.floating] | NDArray[np.uint8]) -> Picture:
    return np.ascontiguousarray(np.clip(values, 0, 255).astype(np.uint8))
