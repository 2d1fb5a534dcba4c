"""Semantic versions (semver.org, 2.0.0) in their order: ``1.0.0-rc1`` comes before ``1.0.0``."""

from __future__ import annotations

import re

_NUMBER = r"(0|[1-9]\d*)"
_WORD = r"[0-9A-Za-z-]+"
_SEMVER = re.compile(
    rf"{_NUMBER}\.{_NUMBER}\.{_NUMBER}(?:-({_WORD}(?:\.{_WORD})*))?(?:\+[0-9A-Za-z.-]+)?",
    re.ASCII,
)

Precedence = tuple[int, int, int, bool, tuple[tuple[bool, int, str], ...]]


def precedence(version: str) -> Precedence | None:
    """A value that sorts like the version; None for a text that is no semantic version.

    What stands after a ``+`` says nothing about the order, as the specification has it.
    """
    match = _SEMVER.fullmatch(version)
    if match is None:
        return None

    identifiers = match[4].split(".") if match[4] else []
    if any(word.isdigit() and word != str(int(word)) for word in identifiers):
        return None  # a number that begins with a zero

    # Numbers sort as numbers and before words; a release sorts after all its pre-releases.
    ranks = tuple(
        (not word.isdigit(), int(word) if word.isdigit() else 0, word) for word in identifiers
    )
    return int(match[1]), int(match[2]), int(match[3]), not identifiers, ranks
