"""What went on and what went off, from record to record."""

from __future__ import annotations

from edge_runtime.records import LabelScore
from edge_runtime.sinks.changes import LabelChanges
from tests.unit.test_records import record


def on(*names: str):
    return record(labels=tuple(LabelScore(name, 0.75, 0.5, True) for name in names))


def test_changes_are_what_went_on_and_what_went_off():
    changes = LabelChanges()
    assert changes(on()) == ([], [])
    assert [label.name for label in changes(on("a", "b"))[0]] == ["a", "b"]
    assert changes(on("a", "b")) == ([], [])

    went_on, went_off = changes(on("b", "c"))
    assert ([label.name for label in went_on], went_off) == (["c"], ["a"])
