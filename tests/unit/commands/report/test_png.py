"""The PNG shows the chart that the page shows."""

from __future__ import annotations

import cv2
import numpy as np

from edge_runtime.commands.report.chart import chart
from edge_runtime.commands.report.png import SCALE, to_png
from edge_runtime.commands.report.run import read_run
from tests.unit.commands.report.runs import drive, line


def test_the_png_is_a_picture_of_the_same_chart():
    canvas = chart(read_run(drive(), "x"))
    picture = cv2.imdecode(np.frombuffer(to_png(canvas), np.uint8), cv2.IMREAD_COLOR)
    assert picture.shape == (SCALE * canvas.height, SCALE * canvas.width, 3)
    green = np.abs(picture.astype(int) - (0x4B, 0x6B, 0x0A)).max(axis=2) < 60
    assert green.sum() > 5000


def test_one_record_can_be_drawn():
    assert to_png(chart(read_run([line(0, "snow")], "x")))
