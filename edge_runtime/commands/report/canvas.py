"""A drawing before it has a format: bars, curves and captions, with roles in place of colours.

A drawing is made once, in ``chart.py``. ``svg.py`` and ``png.py`` turn it into bytes, and know
nothing of runs.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, TypeAlias

# Role -> (light, dark). The page follows the browser's preference; a PNG is always light.
INK = {
    "page": ("#ffffff", "#14171b"),
    "text": ("#1b1f24", "#e9ecef"),
    "quiet": ("#57606a", "#a5adb8"),
    "grid": ("#d5d9de", "#333a43"),
    "on": ("#0a6b4b", "#3ecf98"),
    "main": ("#0b5cad", "#7ab8ff"),
    "soft": ("#a9c8ea", "#2c4a6e"),
    "warn": ("#b3541e", "#ffb27a"),
}

Anchor = Literal["start", "middle", "end"]


@dataclass(frozen=True, slots=True)
class Bar:
    """A filled rectangle; ``title`` is what a page shows under the pointer."""

    x: float
    y: float
    width: float
    height: float
    ink: str
    opacity: float = 1.0
    title: str = ""


@dataclass(frozen=True, slots=True)
class Curve:
    """A line through two points or more."""

    points: list[tuple[float, float]]
    ink: str


@dataclass(frozen=True, slots=True)
class Caption:
    """One line of text; ``y`` is its baseline."""

    x: float
    y: float
    text: str
    ink: str = "text"
    size: int = 12
    anchor: Anchor = "start"


Shape: TypeAlias = Bar | Curve | Caption


@dataclass(slots=True)
class Canvas:
    """Shapes in the order they are drawn, in pixels of a ``width`` x ``height`` picture."""

    width: int
    height: int
    shapes: list[Shape] = field(default_factory=list)

    def bar(
        self,
        x: float,
        y: float,
        width: float,
        height: float,
        ink: str,
        opacity: float = 1.0,
        title: str = "",
    ) -> None:
        """Add a rectangle, at least half a pixel wide, so that nothing short disappears."""
        self.shapes.append(Bar(x, y, max(width, 0.5), height, ink, opacity, title))

    def curve(self, points: list[tuple[float, float]], ink: str) -> None:
        """Add a line; fewer than two points draw nothing."""
        if len(points) > 1:
            self.shapes.append(Curve(points, ink))

    def caption(
        self,
        x: float,
        y: float,
        text: str,
        ink: str = "text",
        size: int = 12,
        anchor: Anchor = "start",
    ) -> None:
        """Add one line of text."""
        self.shapes.append(Caption(x, y, text, ink, size, anchor))
