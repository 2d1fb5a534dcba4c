"""A canvas as SVG. Colours are CSS classes, one a role: one drawing serves light and dark."""

from __future__ import annotations

import html

from edge_runtime.commands.report.canvas import INK, Bar, Canvas, Caption, Curve, Shape


def to_svg(canvas: Canvas, description: str) -> str:
    """An <svg> element; ``description`` is what a screen reader says of it."""
    head = (
        f'<svg viewBox="0 0 {canvas.width} {canvas.height}" role="img" '
        f'aria-label="{html.escape(description)}" xmlns="http://www.w3.org/2000/svg">'
    )
    return "\n".join([head, *map(_element, canvas.shapes), "</svg>"])


def ink_css() -> str:
    """One rule a role; the page defines the variables."""
    return "\n".join(
        f".f-{ink} {{ fill: var(--{ink}); }} .s-{ink} {{ stroke: var(--{ink}); }}" for ink in INK
    )


def _element(shape: Shape) -> str:
    match shape:
        case Bar():
            return _rect(shape)
        case Curve():
            points = " ".join(f"{x:.1f},{y:.1f}" for x, y in shape.points)
            return f'<polyline class="s-{shape.ink}" points="{points}"/>'
        case Caption():
            return _text(shape)


def _rect(bar: Bar) -> str:
    box = f'x="{bar.x:.1f}" y="{bar.y:.1f}" width="{bar.width:.1f}" height="{bar.height:.1f}"'
    fade = f' fill-opacity="{bar.opacity:.2f}"' if bar.opacity < 1 else ""
    title = f"<title>{html.escape(bar.title)}</title>" if bar.title else ""
    return f'<rect class="f-{bar.ink}" {box}{fade}>{title}</rect>'


def _text(caption: Caption) -> str:
    place = f'x="{caption.x:.1f}" y="{caption.y:.1f}"'
    font = f'font-size="{caption.size}" text-anchor="{caption.anchor}"'
    return f'<text class="f-{caption.ink}" {place} {font}>{html.escape(caption.text)}</text>'
