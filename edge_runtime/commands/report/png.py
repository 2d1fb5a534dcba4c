"""A canvas as PNG, drawn by OpenCV.

Why not by converting the SVG: no library that the camera has can read SVG. cairo, librsvg and a
browser each cost more megabytes than these lines, and on most cameras they are missing. OpenCV is
loaded anyway. It draws the same shapes in the same order, so a lane of the chart exists only once.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edge_runtime.commands.report.canvas import INK, Bar, Canvas, Caption, Curve
from edge_runtime.system.opencv import cv2

SCALE = 2  # pixels of the picture for one of the canvas, as on a screen of high resolution

# OpenCV's font is about 30 pixels high at font scale 1, counted as CSS counts a font size.
_FONT = cv2.FONT_HERSHEY_SIMPLEX
_FONT_PIXELS = 30


def to_png(canvas: Canvas) -> bytes:
    """PNG bytes. OpenCV's font is ASCII only; other letters become question marks."""
    picture = np.empty((canvas.height * SCALE, canvas.width * SCALE, 3), np.uint8)
    picture[:] = _bgr("page")

    for shape in canvas.shapes:
        match shape:
            case Bar():
                _fill(picture, shape)
            case Curve():
                points = np.array([_pixel(x, y) for x, y in shape.points])
                cv2.polylines(picture, [points], False, _bgr(shape.ink), SCALE, cv2.LINE_AA)
            case Caption():
                _write(picture, shape)
    return bytes(cv2.imencode(".png", picture)[1])


def _fill(picture: NDArray[np.uint8], bar: Bar) -> None:
    left, top = _pixel(bar.x, bar.y)
    right, bottom = _pixel(bar.x + bar.width, bar.y + bar.height)
    area = picture[top:bottom, left : max(right, left + 1)]
    blend = bar.opacity * np.array(_bgr(bar.ink)) + (1 - bar.opacity) * area
    area[:] = blend.astype(np.uint8)


def _write(picture: NDArray[np.uint8], caption: Caption) -> None:
    text = caption.text.encode("ascii", "replace").decode()
    font_scale = caption.size * SCALE / _FONT_PIXELS
    thickness = SCALE // 2
    (width, _), _ = cv2.getTextSize(text, _FONT, font_scale, thickness)

    left, baseline = _pixel(caption.x, caption.y)
    left -= {"start": 0, "middle": width // 2, "end": width}[caption.anchor]
    place = (left, baseline)
    colour = _bgr(caption.ink)
    cv2.putText(picture, text, place, _FONT, font_scale, colour, thickness, cv2.LINE_AA)


def _pixel(x: float, y: float) -> tuple[int, int]:
    return round(x * SCALE), round(y * SCALE)


def _bgr(ink: str) -> tuple[int, int, int]:
    light, _ = INK[ink]
    red, green, blue = bytes.fromhex(light.removeprefix("#"))
    return blue, green, red
