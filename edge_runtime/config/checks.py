"""Checks that many fields share. Each raises ValueError with the field's name and its limits."""

from __future__ import annotations

from collections.abc import Sequence


def check_length(name: str, text: str, limit: int) -> None:
    """``text`` has at most ``limit`` characters."""
    if len(text) > limit:
        raise ValueError(f"{name} has {len(text)} characters; it may have {limit}")


def check_range(name: str, value: float, low: float, high: float) -> None:
    """``value`` is from ``low`` to ``high``, both included. NaN is not."""
    if not low <= value <= high:
        raise ValueError(f"{name} must be between {low} and {high}, not {value}")


def check_choice(name: str, value: object, choices: Sequence[object]) -> None:
    """``value`` is one of ``choices``. A file's values are; Python's may be anything."""
    if value not in choices:
        raise ValueError(f"{name} must be one of {', '.join(map(str, choices))}, not {value}")
