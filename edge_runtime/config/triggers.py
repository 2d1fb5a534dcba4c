"""Which frames are stored, as pictures or clips: rules, and the conditions that they test."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Literal

from edge_runtime.config.checks import check_range
from edge_runtime.records import RecordState


@dataclass(frozen=True, slots=True)
class Condition:
    """A test of a record: exactly one of ``label``, ``state``, ``all``, ``any`` and ``not``.

    ``label`` alone tests that it is on. With ``min_score`` or ``max_score`` it tests the score
    instead.
    """

    # The short form: `when: fog`.
    label: str | None = field(default=None, metadata={"short": True, "any_word": True})
    min_score: float | None = None
    max_score: float | None = None
    state: RecordState | None = None
    all: tuple[Condition, ...] | None = None
    any: tuple[Condition, ...] | None = None
    not_: Condition | None = field(default=None, metadata={"key": "not"})

    def __post_init__(self) -> None:
        kinds = {
            "label": self.label,
            "state": self.state,
            "all": self.all,
            "any": self.any,
            "not": self.not_,
        }
        keys = [name for name, value in kinds.items() if value is not None]
        if len(keys) != 1:
            raise ValueError(
                f"a condition is one of {', '.join(kinds)}; this has {' and '.join(keys) or 'none'}"
            )
        if self.all == () or self.any == ():
            raise ValueError("all and any need at least one condition below them")
        self._check_score("min_score", self.min_score)
        self._check_score("max_score", self.max_score)

    def _check_score(self, name: str, score: float | None) -> None:
        if score is None:
            return
        if self.label is None:
            raise ValueError(f"{name} belongs to a label; write it beside one")
        check_range(name, score, 0, 1)

    @property
    def labels(self) -> set[str]:
        """Every label that it tests, also in the conditions below it."""
        names = {self.label} if self.label else set()
        for condition in (*(self.all or ()), *(self.any or ()), self.not_):
            if condition is not None:
                names |= condition.labels
        return names


@dataclass(frozen=True, slots=True)
class TriggerRule:
    """When to store a picture or a clip."""

    name: str
    when: Condition | None = None
    edge: Literal["rising", "level"] = "rising"
    save: Literal["snapshot", "clip"] = "snapshot"
    min_interval_s: float = 10.0
    pre_s: float = 0.0
    post_s: float = 0.0
    min_distance: float | None = None

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[A-Za-z0-9_-]{1,40}", self.name):
            raise ValueError(
                "a rule's name is part of a file's name: letters, digits, - and _, "
                f"not {self.name!r}"
            )
        check_range("min_interval_s", self.min_interval_s, 0, 86400)
        check_range("pre_s", self.pre_s, 0, 30)
        check_range("post_s", self.post_s, 0, 60)
        if self.min_distance is not None:
            check_range("min_distance", self.min_distance, 0.001, 2)

        if self.save == "snapshot" and (self.pre_s or self.post_s):
            raise ValueError(f"rule {self.name}: pre_s and post_s are for save: clip")
        if self.save == "clip" and not (self.pre_s or self.post_s):
            raise ValueError(f"rule {self.name}: a clip needs pre_s or post_s")
        if self.when is None and self.min_distance is None:
            raise ValueError(
                f"rule {self.name} would keep everything; give it when, or min_distance"
            )


@dataclass(frozen=True, slots=True)
class TriggersConfig:
    """Store pictures and clips that a rule asks for, in a folder that never exceeds its cap."""

    spool: str
    rules: tuple[TriggerRule, ...]
    max_mb: float = 500.0
    clip_fps: float = 5.0
    ring_mb: float = 8.0
    hook: tuple[str, ...] = ()
    hook_timeout_s: float = 60.0
    delete_after_hook: bool = False

    def __post_init__(self) -> None:
        check_range("triggers.max_mb", self.max_mb, 0.1, 1e6)
        check_range("triggers.clip_fps", self.clip_fps, 0.2, 60)
        check_range("triggers.ring_mb", self.ring_mb, 0.1, 64)
        check_range("triggers.hook_timeout_s", self.hook_timeout_s, 1, 3600)

        if not self.rules:
            raise ValueError("triggers.rules is empty; add at least one '- name: ...' under it")
        names = [rule.name for rule in self.rules]
        if len(set(names)) < len(names):
            raise ValueError("two rules have the same name; names must differ")
        if self.delete_after_hook and not self.hook:
            raise ValueError(
                "triggers.delete_after_hook needs triggers.hook; add it, or set it to false"
            )
