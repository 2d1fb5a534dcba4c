"""A chart has a lane for everything that the run knows, and none for what it does not."""

from __future__ import annotations

from edge_runtime.commands.report.canvas import Bar, Canvas, Caption, Curve
from edge_runtime.commands.report.chart import COLUMNS, LEFT, chart
from edge_runtime.commands.report.run import read_run
from tests.unit.commands.report.runs import drive, line


def captions(canvas: Canvas) -> list[str]:
    return [shape.text for shape in canvas.shapes if isinstance(shape, Caption)]


def test_a_lane_is_drawn_only_where_there_is_something_to_show():
    plain = captions(chart(read_run([line(i, temp_c=None) for i in range(20)], "x")))
    assert {"State", "Latency, ms", "FPS", "Memory, MB"} <= set(plain)
    assert not {"Temperature, °C", "Frames dropped", "snow"} & set(plain)

    warm = [line(i, "snow", temp_c=50.0, dropped=i) for i in range(20)]
    full = captions(chart(read_run(warm, "x")))
    assert {"Temperature, °C", "Frames dropped", "snow"} <= set(full)


def test_bars_lie_where_the_labels_were_on():
    canvas = chart(read_run(drive(), "x"))
    bars = [shape for shape in canvas.shapes if isinstance(shape, Bar) and "snow" in shape.title]
    assert [round((bar.x - LEFT) / COLUMNS * 9.9, 1) for bar in bars] == [2.0, 8.0]
    assert [round(bar.width / COLUMNS * 9.9, 1) for bar in bars] == [3.0, 0.1]


def test_no_line_is_drawn_across_a_restart():
    again = [line(i, "snow", mono_s=3 + i / 10, boot_id="another") for i in range(50)]
    canvas = chart(read_run([*drive(), *again], "x"))
    assert "restart" in captions(canvas)
    cut = LEFT + COLUMNS * (9.9 + 0.5) / (9.9 + 1 + 4.9)
    curves = [s.points for s in canvas.shapes if isinstance(s, Curve) and len(s.points) > 2]
    assert len(curves) >= 6
    assert not any(points[0][0] < cut < points[-1][0] for points in curves)


def test_a_restart_every_second_does_not_fill_the_chart_with_words():
    restarts = [line(0, "snow", mono_s=float(i), boot_id=str(i)) for i in range(5000)]
    assert captions(chart(read_run(restarts, "x"))).count("restart") <= COLUMNS
