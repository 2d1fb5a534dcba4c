"""The SVG holds every shape, and no text of a record becomes markup."""

from __future__ import annotations

from xml.etree import ElementTree

from edge_runtime.commands.report.canvas import INK, Canvas
from edge_runtime.commands.report.svg import ink_css, to_svg

HOSTILE = "</text><script>document.title='owned'</script>"


def test_every_shape_is_an_element_and_texts_stay_texts():
    canvas = Canvas(100, 50)
    canvas.bar(0, 0, 0.01, 10, "on", 0.5, title=HOSTILE)
    canvas.curve([(0, 0), (10, 10)], "main")
    canvas.curve([(0, 0)], "main")
    canvas.caption(5, 5, HOSTILE, anchor="end")

    root = ElementTree.fromstring(to_svg(canvas, HOSTILE))
    names = [element.tag.partition("}")[2] for element in root.iter()]
    assert names == ["svg", "rect", "title", "polyline", "text"]
    assert root[0].get("width") == "0.5", "nothing short disappears"
    assert [root.get("aria-label"), root[0][0].text, root[2].text] == [HOSTILE] * 3


def test_every_role_has_a_colour_rule():
    assert all(f"var(--{ink})" in ink_css() for ink in INK)
