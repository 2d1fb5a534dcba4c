"""The PNG shows the chart that the page shows."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_runtime.commands.report.canvas import INK
from edge_runtime.commands.report.chart import chart
from edge_runtime.commands.report.png import SCALE, to_png
from edge_runtime.commands.report.run import read_run
from edge_runtime.commands.report.svg import ink_css, to_svg
from tests.chromium import browse
from tests.unit.commands.report.runs import drive, line


def test_the_png_is_a_picture_of_the_same_chart():
    canvas = chart(read_run(drive(), "x"))
    picture = cv2.imdecode(np.frombuffer(to_png(canvas), np.uint8), cv2.IMREAD_COLOR)
    assert picture.shape == (SCALE * canvas.height, SCALE * canvas.width, 3)
    green = np.abs(picture.astype(int) - (0x4B, 0x6B, 0x0A)).max(axis=2) < 60
    assert green.sum() > 5000


def test_one_record_can_be_drawn():
    assert to_png(chart(read_run([line(0, "snow")], "x")))


def inked(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Which cells of 20 x 20 pixels have anything drawn in them."""
    height, width = picture.shape[:2]
    dark = (picture.min(axis=2) < 200).astype(np.uint8)
    cells = dark[: height // 20 * 20, : width // 20 * 20].reshape(height // 20, 20, width // 20, 20)
    return cells.max(axis=(1, 3))


def alone(one: NDArray[np.uint8], other: NDArray[np.uint8]) -> int:
    """Cells drawn in one picture where the other has nothing there nor in the cells around."""
    near = cv2.dilate(inked(other), np.ones((3, 3), np.uint8))
    return int((inked(one) & ~near & 1).sum())


def test_a_browser_draws_the_svg_as_the_png_is_drawn(tmp_path: Path):
    """Two renderers of one canvas: neither may draw what the other does not."""
    canvas = chart(
        read_run([line(i, "snow", temp_c=50 + i / 9, dropped=i) for i in range(90)], "x")
    )
    colours = " ".join(f"--{ink}: {light};" for ink, (light, _) in INK.items())
    style = (
        f":root {{ {colours} }} {ink_css()} body {{ margin: 0 }} polyline {{ fill: none }} "
        f"svg {{ display: block; width: {canvas.width}px; font-family: sans-serif }}"
    )
    page = tmp_path / "chart.html"
    page.write_text(f"<!DOCTYPE html><style>{style}</style>{to_svg(canvas, 'chart')}")
    browse(
        tmp_path / "profile",
        page.as_uri(),
        f"--screenshot={tmp_path / 'browser.png'}",
        f"--window-size={canvas.width},{canvas.height}",
        f"--force-device-scale-factor={SCALE}",
    )

    browser = cv2.imread(str(tmp_path / "browser.png"))
    ours = cv2.imdecode(np.frombuffer(to_png(canvas), np.uint8), cv2.IMREAD_COLOR)
    assert browser.shape == ours.shape
    # Letters of another font are a little wider or narrower: 3 cells here. Without the lines 243
    # would be left, without the texts 153, without the bars 1140.
    assert alone(browser, ours) < 30
    assert alone(ours, browser) < 30
