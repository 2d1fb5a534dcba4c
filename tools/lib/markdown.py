"""Markdown tables."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


def table(head: Sequence[str], rows: Iterable[Sequence[str]], align: str = "") -> str:
    """A table with one row a line, no line break at its end.

    align: a letter for each column, "l" or "r"; the last one holds for all columns behind it.
    """
    letters = (align or "l").ljust(len(head), (align or "l")[-1])
    rules = ["---:" if letter == "r" else "---" for letter in letters[: len(head)]]
    return "\n".join(row(cells) for cells in (head, rules, *rows))


def row(cells: Sequence[str]) -> str:
    """One line of a table."""
    return f"| {' | '.join(cells)} |"
