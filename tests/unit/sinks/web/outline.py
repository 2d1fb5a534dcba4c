"""The elements of a page, and what holds for those of every page of ours."""

from __future__ import annotations

from html.parser import HTMLParser

Element = tuple[str, dict[str, str | None]]  # tag and attributes


class _Outline(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.elements: list[Element] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))


def elements_of(page: str) -> list[Element]:
    """All elements. No two have one id, and none has a script or a style in its attributes."""
    outline = _Outline()
    outline.feed(page)
    ids = ids_of(outline.elements)
    assert len(ids) == len(set(ids))
    for _, attributes in outline.elements:
        assert not any(name.startswith("on") or name == "style" for name in attributes)
    return outline.elements


def ids_of(elements: list[Element]) -> list[str | None]:
    return [attributes["id"] for _, attributes in elements if "id" in attributes]
