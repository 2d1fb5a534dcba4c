"""The last line of a run's log says how much was labelled, how fast, and what was seen."""

from __future__ import annotations

from edge_runtime.daemon import summary
from edge_runtime.records import LabelScore
from tests.unit.test_records import record


def test_the_summary_names_the_labels_that_were_on_most(monkeypatch):
    clock = iter([10.0, 12.0])
    monkeypatch.setattr(summary.time, "monotonic", lambda: next(clock))
    run = summary.Summary()
    snow = LabelScore("snow", 0.9, 0.8, on=True)
    ice = LabelScore("ice", 0.9, 0.8, on=False)

    for i in range(4):
        run.add(record(seq=i, labels=(snow, ice) if i else (ice,), dropped=i))

    text = run.text(lost=7)
    assert text.startswith(
        "4 frames in 2.0 s: 2.0 FPS, encode 20.0 ms mean, 3 dropped, 7 records lost, peak RSS "
    )
    assert text.endswith(" MB; labels on: snow 75 %")


def test_a_run_without_a_label_says_none():
    run = summary.Summary()
    run.add(record(labels=()))
    assert run.text(lost=0).endswith("labels on: none")
