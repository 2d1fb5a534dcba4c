"""Synthetic camera conditions (night, fog, rain ...) and the texts that describe them.

No set of pictures of nights, tunnels or dirty lenses is at hand, so the conditions are laid over
ordinary pictures. Every condition is a function of (picture, strength, rng), with strength in
0 ... 1. It uses only operations on whole arrays, because it runs once for every view.

Sizes are shares of the picture, so that a condition looks the same at every resolution.
"""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
from numpy.typing import NDArray

Picture = NDArray[np.uint8]  # (H, W, 3) RGB
Condition = Callable[[Picture, float, np.random.Generator], Picture]
CLEAR = "clear"
GREY_LEVELS = np.arange(256, dtype=np.float32)  # what a tone curve is a function of
BLUISH = np.array([0.8, 0.9, 1.1], np.float32)  # light of the night sky
SODIUM = np.array([1.15, 0.95, 0.7], np.float32)  # light of sodium street lamps
# Several prompts a condition: their mean is its text embedding.
TEXTS: dict[str, tuple[str, ...]] = {
    CLEAR: ("a clear photo in daylight", "a sharp, well exposed photo"),
    "night": ("a photo taken at night", "a dark street at night"),
    "dusk": ("a sunset", "a sunrise", "a road at dusk"),
    "fog": ("a photo taken in fog", "a foggy road"),
    "rain": ("a photo taken in the rain", "a rainy day"),
    "snow": ("a photo taken in falling snow", "a snowy day"),
    "motion_blur": ("a photo with motion blur", "a photo blurred by fast movement"),
    "defocus": ("a blurry photo", "a photo out of focus"),
    "dirt": ("a photo through a dirty lens", "dirt on the camera lens"),
    "glare": ("a photo with sun glare", "a photo against the bright sun"),
    "overexposed": ("an overexposed photo", "a photo that is too bright"),
    "underexposed": ("an underexposed photo", "a photo that is too dark"),
}


def smooth_noise(
    rng: np.random.Generator, height: int, width: int, cells: int
) -> NDArray[np.float32]:
    """(height, width) in 0 ... 1: `cells` x `cells` random values, scaled up smoothly."""
    coarse = rng.random((cells, cells), np.float32)
    return np.clip(cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC), 0, 1)


def _lut(picture: Picture, curve: NDArray[np.float32]) -> Picture:
    """Map every value through `curve`: 256 values, or 256 x 3 for a curve by channel."""
    table = np.clip(curve, 0, 255).astype(np.uint8)
    return cv2.LUT(picture, table if table.ndim == 1 else table[None])


def _half_tone(height: int, width: int, value: float) -> NDArray[np.float32]:
    """A veil of the same strength everywhere."""
    return np.full((height, width), value, np.float32)


def _blend(picture: Picture, veil: NDArray[np.float32], colour: NDArray[np.float32]) -> Picture:
    """picture * (1 - veil) + colour * veil; veil (H, W) in 0 ... 1, colour (3,) or (H, W, 3)."""
    alpha = veil[..., None]
    return np.clip(picture * (1 - alpha) + colour * alpha, 0, 255).astype(np.uint8)


def night(picture: Picture, strength: float, rng: np.random.Generator) -> Picture:
    """Dark, bluish, noisy; what was bright stays as a lamp with a halo."""
    height, width = picture.shape[:2]
    x = GREY_LEVELS / 255
    gain = 0.45 - 0.3 * strength
    tint = BLUISH if rng.random() < 0.6 else SODIUM
    # Highlights are cut at 0.7, so that white surfaces do not shine.
    dark = _lut(picture, 255 * gain * (np.minimum(x, 0.7)[:, None] ** (1.3 + strength)) * tint)

    # A lamp is small. What is bright over a tenth of the picture is the sky, which is dark at
    # night.
    bright = np.maximum(picture.max(2).astype(np.float32) - 225, 0) / 30
    window = (max(3, width // 10), max(3, height // 10))
    lights = np.maximum(bright - 2 * cv2.blur(bright, window), 0)

    # A few lamps more, in the middle half, where street lamps and windows are.
    for _ in range(int(rng.integers(0, 5))):
        across = int(rng.integers(width))
        down = int(rng.integers(height // 4, max(height * 3 // 4, height // 4 + 1)))
        radius = max(1, int(width * rng.uniform(0.008, 0.03)))
        cv2.circle(lights, (across, down), radius, 1.0, -1)

    halo = cv2.GaussianBlur(lights, (0, 0), max(1.0, width / 40)) * 1.5 + lights * 0.7
    lamp = np.array([255, rng.uniform(190, 250), rng.uniform(120, 240)], np.float32)
    noise = rng.normal(0, 2 + 8 * strength, (height, width, 1)).astype(np.float32)
    return np.clip(dark + np.clip(halo, 0, 1)[..., None] * lamp + noise, 0, 255).astype(np.uint8)


def dusk(picture: Picture, strength: float, rng: np.random.Generator) -> Picture:
    """The ground is nearly a silhouette; the sky runs down to orange at the horizon, often with a
    low sun."""
    height, width = picture.shape[:2]
    warm = np.array([1.1, 0.9, 0.75], np.float32)
    dark = _lut(picture, GREY_LEVELS[:, None] * (0.75 - 0.45 * strength) * warm)

    # From the colour of the zenith to the colour at the horizon, and cloudy.
    horizon = rng.uniform(0.4, 0.75)
    down = np.clip(np.linspace(0, 1 / horizon, height, dtype=np.float32), 0, 1)[:, None]
    top = np.float32([rng.uniform(40, 200), rng.uniform(50, 110), rng.uniform(50, 150)])
    low = np.float32([255, rng.uniform(110, 200), rng.uniform(20, 100)])
    clouds = 0.6 + 0.4 * smooth_noise(rng, height, width, 6)
    sky = (top * (1 - down) + low * down)[:, None].repeat(width, 1) * clouds[..., None]

    # The sky is what is bright and high up; the rest keeps its own, darkened colours.
    grey = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY).astype(np.float32)
    bright = np.clip((grey - 90) / 60, 0.15, 1)
    above = np.clip((horizon - np.linspace(0, 1, height, dtype=np.float32)) * 12, 0, 1)[:, None]
    out = _blend(dark, bright * above * (0.55 + 0.4 * strength), sky)

    if rng.random() < 0.7:
        y, x = np.ogrid[:height, :width]
        sun_x = rng.uniform(0.1, 0.9) * width
        sun_y = (horizon - rng.uniform(0, 0.2)) * height
        distance = np.hypot(x - sun_x, y - sun_y) / width
        halo = np.exp(-distance.astype(np.float32) / 0.12) * 0.7
        glow = halo + (distance < rng.uniform(0.015, 0.05))
        out = _blend(out, np.clip(glow, 0, 1), np.float32([255, 225, rng.uniform(120, 190)]))
    return out


def fog(picture: Picture, strength: float, rng: np.random.Generator) -> Picture:
    """Grey airlight in patches, thicker with distance.

    Koschmieder's law: I = J t + A (1 - t) with t = exp(-beta d). The distance d is guessed from the
    row: all that is above a random horizon is far away, and the ground comes nearer below it.
    """
    height, width = picture.shape[:2]
    horizon = rng.uniform(0.2, 0.6)
    rows = np.linspace(0, 1, height, dtype=np.float32)
    ground = (1 - rows) / (1 - horizon) * 0.85 + 0.15
    distance = np.where(rows < horizon, 1.0, ground).astype(np.float32)

    patches = 0.8 + 0.4 * smooth_noise(rng, height, width, 4)
    veil = 1 - np.exp(-(0.6 + 3.0 * strength) * distance[:, None] * patches)
    airlight = np.array([1, 1, rng.uniform(1.0, 1.04)], np.float32) * rng.uniform(165, 230)
    return _blend(picture, veil, airlight)


def _streaks(
    rng: np.random.Generator, height: int, width: int, share: float, length: int, angle: float
) -> Picture:
    """Random dots smeared along `angle` (degrees from vertical): (height, width) uint8."""
    dots = (rng.random((height, width), np.float32) < share).astype(np.float32) * 255
    # The kernel sums to 1, so a dot fades by the length it is smeared over; most is given back.
    smeared = cv2.filter2D(dots, -1, line_kernel(length, angle)) * length * 0.6
    return np.clip(smeared, 0, 255).astype(np.uint8)


def line_kernel(length: int, angle: float) -> NDArray[np.float32]:
    """A normalised line of `length` pixels, `angle` degrees from vertical, as a filter."""
    length = max(3, length | 1)  # odd, so that there is a middle pixel
    kernel = np.zeros((length, length), np.float32)
    middle = length // 2
    dx = np.sin(np.radians(angle)) * middle
    dy = np.cos(np.radians(angle)) * middle
    ends = [(round(middle + s * dx), round(middle + s * dy)) for s in (-1, 1)]
    cv2.line(kernel, ends[0], ends[1], 1.0, 1)
    return kernel / kernel.sum()


def rain(picture: Picture, strength: float, rng: np.random.Generator) -> Picture:
    """Less contrast, grey light, slanted streaks, sometimes drops on the glass."""
    height, width = picture.shape[:2]
    wet = _lut(picture, (GREY_LEVELS - 128) * (1 - 0.35 * strength) + 128 - 30 * strength)
    grey = cv2.cvtColor(cv2.cvtColor(wet, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
    wet = cv2.addWeighted(wet, 1 - 0.4 * strength, grey, 0.4 * strength, 0)

    length = int(width * rng.uniform(0.05, 0.14))
    streaks = _streaks(rng, height, width, 0.002 + 0.01 * strength, length, rng.uniform(-25, 25))
    veil = streaks.astype(np.float32) / 255 * rng.uniform(0.3, 0.6)
    out = _blend(wet, veil, np.float32([205, 210, 215]))

    if rng.random() < 0.4:
        coarse = rng.random((24, 24), np.float32)
        drops = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC) > 0.93
        # A drop is a lens: it shows the scene upside down and out of focus.
        blurred = cv2.GaussianBlur(out, (0, 0), max(1.0, width / 30))
        out = np.where(drops[..., None], cv2.flip(blurred, 0), out)
    return out


def snow(picture: Picture, strength: float, rng: np.random.Generator) -> Picture:
    """Flakes of several sizes, a white veil, and white ground where surfaces were bright."""
    height, width = picture.shape[:2]
    haze = _half_tone(height, width, 0.1 + 0.25 * strength)
    cold = _blend(picture, haze, np.float32([225, 230, 238]))

    if rng.random() < 0.6:
        rows = np.linspace(0, 1, height, dtype=np.float32)[:, None]
        ground = (rows > rng.uniform(0.45, 0.7)).astype(np.float32)
        cover = cv2.GaussianBlur(ground * smooth_noise(rng, height, width, 6), (0, 0), width / 24)
        cold = _blend(cold, np.clip(cover * (0.6 + strength), 0, 0.9), np.float32([238, 241, 247]))

    # Fine grids give far flakes, coarse ones near flakes: scaling a dot up makes it large and soft.
    flakes = np.zeros((height, width), np.float32)
    for cells, share in ((96, 0.01), (48, 0.015), (28, 0.01)):
        density = share * (0.5 + 2 * strength)
        dots = (rng.random((cells, cells), np.float32) < density).astype(np.float32)
        layer = cv2.resize(dots, (width, height), interpolation=cv2.INTER_LINEAR)
        flakes = np.maximum(flakes, layer)
    return _blend(cold, flakes * 0.95, np.float32([250, 250, 252]))


def motion_blur(picture: Picture, strength: float, rng: np.random.Generator) -> Picture:
    """Smeared along a line, mostly sideways as from a moving camera."""
    angle = rng.normal(90, 20)
    length = int(picture.shape[1] * (0.06 + 0.16 * strength))
    return cv2.filter2D(picture, -1, line_kernel(length, angle))


def defocus(picture: Picture, strength: float, rng: np.random.Generator) -> Picture:
    """Convolved with a disc, as an out-of-focus lens does."""
    radius = max(1, round(picture.shape[1] * (0.012 + 0.04 * strength) * rng.uniform(0.8, 1.2)))
    side = 2 * radius + 1
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side, side)).astype(np.float32)
    return cv2.filter2D(picture, -1, disc / disc.sum())


def dirt(picture: Picture, strength: float, rng: np.random.Generator) -> Picture:
    """Soft brown and grey stains close to the lens, and the haze they scatter."""
    height, width = picture.shape[:2]
    large = smooth_noise(rng, height, width, 7)
    small = smooth_noise(rng, height, width, 16)
    stains = np.maximum(large, small * 0.95)
    veil = np.clip((stains - (0.8 - 0.35 * strength)) * 6, 0, 1) * rng.uniform(0.65, 0.95)
    colour = np.float32([90, 75, 60]) * rng.uniform(0.4, 1.5)

    haze = _half_tone(height, width, 0.12 * strength)
    hazy = _blend(picture, haze, np.float32([150, 145, 140]))
    return _blend(hazy, cv2.GaussianBlur(veil, (0, 0), max(1.0, width / 64)), colour)


def glare(picture: Picture, strength: float, rng: np.random.Generator) -> Picture:
    """A sun in or near the frame: bright disc, wide halo, washed-out contrast."""
    height, width = picture.shape[:2]
    cx = rng.uniform(0, 1) * width
    cy = rng.uniform(-0.05, 0.5) * height
    y, x = np.ogrid[:height, :width]
    distance = np.sqrt((x - cx) ** 2 + (y - cy) ** 2).astype(np.float32) / width
    halo = np.exp(-distance / (0.1 + 0.25 * strength)) * (0.7 + 0.5 * strength)
    veil = np.clip(halo + 0.15 * strength + (distance < 0.03 + 0.05 * strength), 0, 1)
    light = np.array([255, rng.uniform(235, 255), rng.uniform(200, 250)], np.float32)
    return _blend(picture, veil, light)


def overexposed(picture: Picture, strength: float, rng: np.random.Generator) -> Picture:
    """Too much light: scaled up and clipped to white."""
    return _lut(picture, GREY_LEVELS * (1.6 + 1.6 * strength) + 25 + 40 * strength * rng.random())


def underexposed(picture: Picture, strength: float, rng: np.random.Generator) -> Picture:
    """Too little light, without lamps: scaled down, coarse steps, some noise."""
    dark = _lut(picture, GREY_LEVELS * (0.4 - 0.28 * strength))
    noise = rng.normal(0, 1 + 3 * strength, (*picture.shape[:2], 1)).astype(np.float32)
    return np.clip(dark + noise, 0, 255).astype(np.uint8)


CONDITIONS: dict[str, Condition] = {
    "night": night,
    "dusk": dusk,
    "fog": fog,
    "rain": rain,
    "snow": snow,
    "motion_blur": motion_blur,
    "defocus": defocus,
    "dirt": dirt,
    "glare": glare,
    "overexposed": overexposed,
    "underexposed": underexposed,
}
NAMES: tuple[str, ...] = tuple(TEXTS)  # the order of condition ids; 0 is CLEAR
