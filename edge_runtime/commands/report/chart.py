"""The chart of a run: lanes below each other, over one time axis.

A lane decides what is drawn, on a ``Canvas``. What the drawing becomes, SVG or PNG, is decided by
whoever asks for the chart.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from edge_runtime.commands.report.canvas import Canvas
from edge_runtime.commands.report.figures import (
    axis_top,
    buckets,
    longest_on,
    medians,
    percentiles,
    ticks,
)
from edge_runtime.commands.report.run import Run

# Pixels. The left margin holds the names of lanes and labels, the right one the values of an axis.
WIDTH = 1000
LEFT = 150
RIGHT = 70
COLUMNS = WIDTH - LEFT - RIGHT
HEAD = 24
FOOT = 30
SPACE = 26  # between two lanes
LABEL_ROW = 16
DROPS_HEIGHT = 40

_BUCKETS = COLUMNS // 2  # a bucket narrower than two pixels shows nothing more
_NAME_LENGTH = 22  # characters that fit into the left margin
_STATE_INK = {"ok": "on", "unknown": "grid"}


@dataclass(frozen=True, slots=True)
class TimeAxis:
    """Seconds of the run -> pixels."""

    duration_s: float

    def width(self, seconds: float) -> float:
        """How many pixels so many seconds take."""
        return seconds * (COLUMNS / max(self.duration_s, 1e-9))

    def x(self, seconds: float) -> float:
        """Where a moment lies."""
        return LEFT + self.width(seconds)


class Lane(Protocol):
    """One strip of the chart; ``height`` in pixels."""

    @property
    def height(self) -> int:
        """Pixels from its top to its bottom."""

    def draw(self, canvas: Canvas, top: float, axis: TimeAxis) -> None:
        """Draw it below ``top``; its heading may stand up to 6 pixels above."""


def chart(run: Run) -> Canvas:
    """All lanes that have something to show."""
    lanes = _lanes(run)
    canvas = Canvas(WIDTH, HEAD + sum(lane.height + SPACE for lane in lanes) + FOOT)
    axis = TimeAxis(run.duration_s)

    y = float(HEAD)
    for lane in lanes:
        lane.draw(canvas, y, axis)
        y += lane.height + SPACE

    _draw_restarts(canvas, run, axis, bottom=y - 20)
    for t, text in ticks(run.duration_s):
        canvas.curve([(axis.x(t), y - 18), (axis.x(t), y - 13)], "quiet")
        canvas.caption(axis.x(t), y, text, "quiet", 11, "middle")
    return canvas


def _lanes(run: Run) -> list[Lane]:
    lanes: list[Lane] = []
    names = longest_on(run)
    if names:
        lanes.append(LabelLane(run, names))

    lanes.append(StateLane(run))
    lanes.append(CurveLane(run, "Latency, ms", "total", "main", spread=True))
    lanes.append(CurveLane(run, "FPS", "fps", "on"))
    lanes.append(CurveLane(run, "Memory, MB", "rss", "main"))

    if np.isfinite(run.column("temp")).any():
        lanes.append(CurveLane(run, "Temperature, °C", "temp", "warn"))
    if any(run.drops):
        lanes.append(DropLane(run))
    return lanes


def _draw_restarts(canvas: Canvas, run: Run, axis: TimeAxis, *, bottom: float) -> None:
    last_x = -math.inf
    for t in run.restarts:
        x = axis.x(t)
        if x - last_x < 1:  # a camera that restarts all day would draw thousands on one pixel
            continue
        canvas.curve([(x, 16), (x, bottom)], "warn")
        canvas.caption(x, 12, "restart", "warn", 10, "middle")
        last_x = x


@dataclass(frozen=True, slots=True)
class LabelLane:
    """When each label was on; the higher its score, the darker the bar."""

    run: Run
    names: list[str]

    @property
    def height(self) -> int:
        return LABEL_ROW * len(self.names)

    def draw(self, canvas: Canvas, top: float, axis: TimeAxis) -> None:
        canvas.caption(LEFT, top - 6, "Labels on (darker: higher score)", "quiet", 11)

        tops = {name: top + LABEL_ROW * i for i, name in enumerate(self.names)}
        for name, y in tops.items():
            canvas.caption(LEFT - 8, y + 11, _shortened(name), anchor="end")
            canvas.curve([(LEFT, y + 15.5), (WIDTH - RIGHT, y + 15.5)], "grid")

        for span in self.run.spans:
            if span.label not in tops:
                continue
            length_s = span.end_s - span.start_s
            canvas.bar(
                axis.x(span.start_s),
                tops[span.label] + 2,
                axis.width(length_s),
                11,
                "on",
                opacity=0.35 + 0.65 * span.peak,
                title=f"{span.label}: {length_s:.1f} s from {span.time}, "
                f"at most {100 * span.peak:.0f} %",
            )


@dataclass(frozen=True, slots=True)
class StateLane:
    """The state of every record, as one band."""

    run: Run
    height: int = 12

    def draw(self, canvas: Canvas, top: float, axis: TimeAxis) -> None:
        heading = "State (green ok, grey unknown, orange anything else)"
        canvas.caption(LEFT, top - 6, heading, "quiet", 11)
        canvas.caption(LEFT - 8, top + 10, "State", anchor="end")

        for start_s, end_s, state in self.run.states:
            length_s = end_s - start_s
            ink = _STATE_INK.get(state, "warn")
            title = f"{state}: {length_s:.1f} s"
            canvas.bar(axis.x(start_s), top, axis.width(length_s), 12, ink, title=title)


@dataclass(frozen=True, slots=True)
class DropLane:
    """Frames that newer ones replaced, as columns."""

    run: Run
    height: int = DROPS_HEIGHT

    def draw(self, canvas: Canvas, top: float, axis: TimeAxis) -> None:
        parts = buckets(self.run, np.asarray(self.run.drops), _BUCKETS)
        counts = [float(np.sum(part)) for part in parts]
        most = max(counts)
        width = COLUMNS / len(counts)
        bottom = top + self.height

        canvas.caption(LEFT - 8, top + 14, "Frames dropped", anchor="end")
        canvas.caption(WIDTH - RIGHT + 6, top + 10, f"{most:.0f}", "quiet", 11)
        for i, count in enumerate(counts):
            if count:
                height = self.height * count / most
                canvas.bar(LEFT + i * width, bottom - height, width, height, "warn")
        canvas.curve([(LEFT, bottom), (WIDTH - RIGHT, bottom)], "grid")


@dataclass(frozen=True, slots=True)
class CurveLane:
    """The median of a column over time, from zero up.

    With ``spread`` the lane is higher, and the 95th percentile is a soft area behind the line.
    """

    run: Run
    title: str
    column: str
    ink: str
    spread: bool = False

    @property
    def height(self) -> int:
        return 90 if self.spread else 60

    def draw(self, canvas: Canvas, top: float, axis: TimeAxis) -> None:
        parts = buckets(self.run, self.run.column(self.column), _BUCKETS)
        middle = medians(parts)
        high = percentiles(parts, 95) if self.spread else middle
        most = axis_top(max((value for value in high if math.isfinite(value)), default=1.0))
        bottom = top + self.height

        def level(value: float) -> float:
            return bottom - self.height * min(value / most, 1.0)

        self._draw_scale(canvas, top, [(part * most, level(part * most)) for part in (0, 0.5, 1)])
        if self.spread:
            self._draw_area(canvas, [level(value) for value in high], bottom)
        self._draw_line(canvas, [level(value) for value in middle], axis)

    def _draw_scale(self, canvas: Canvas, top: float, steps: list[tuple[float, float]]) -> None:
        canvas.caption(LEFT - 8, top + 14, self.title, anchor="end")
        if self.spread:
            canvas.caption(LEFT - 8, top + 30, "line median, area p95", "quiet", 10, "end")

        for value, y in steps:
            canvas.curve([(LEFT, y), (WIDTH - RIGHT, y)], "grid")
            canvas.caption(WIDTH - RIGHT + 6, y + 4, f"{value:g}", "quiet", 11)

    def _draw_area(self, canvas: Canvas, levels: list[float], bottom: float) -> None:
        width = COLUMNS / len(levels)
        for i, y in enumerate(levels):
            if math.isfinite(y):
                # A fifth of a pixel more than its width: between two bars no seam shines through.
                canvas.bar(LEFT + i * width, y, width + 0.2, bottom - y, "soft")

    def _draw_line(self, canvas: Canvas, levels: list[float], axis: TimeAxis) -> None:
        """A line that is cut at restarts, and goes on over buckets that hold nothing."""
        width = COLUMNS / len(levels)
        restarts = [axis.x(t) for t in self.run.restarts]
        points: list[tuple[float, float]] = []

        for i, y in enumerate(levels):
            x = LEFT + (i + 0.5) * width
            if restarts and x > restarts[0]:
                restarts.pop(0)
                canvas.curve(points, self.ink)
                points = []
            if math.isfinite(y):
                points.append((x, y))
        canvas.curve(points, self.ink)


def _shortened(name: str) -> str:
    return name if len(name) <= _NAME_LENGTH else f"{name[: _NAME_LENGTH - 1]}…"
