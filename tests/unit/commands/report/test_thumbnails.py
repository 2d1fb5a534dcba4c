"""Events show the pictures that triggers kept of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from edge_runtime.camera.jpeg import JpegEncoder
from edge_runtime.cli import main
from edge_runtime.config import TriggerRule, TriggersConfig
from edge_runtime.records import Frame, LabelledFrame, LabelScore
from edge_runtime.sinks.triggers.rules import Rules
from edge_runtime.sinks.triggers.sink import TriggerSink
from tests.unit.commands.report.runs import drive
from tests.unit.test_records import record


def report_with_a_capture(tmp_path: Path) -> None:
    """A run, a spool with one picture of it and one broken sidecar, and the report of both."""
    spool = tmp_path / "spool"
    rules = (TriggerRule("all", min_distance=0.001, min_interval_s=0),)
    config = TriggersConfig(str(spool), rules)
    sink = TriggerSink(config, JpegEncoder())
    made = record(seq=45, mono_s=54.5, labels=(LabelScore("snow", 0.9, 0.5, True),))
    frame = Frame(np.full((48, 64, 3), 200, np.uint8), "bgr", 54.5, 0.0)
    item = Rules(config, ()).choose(LabelledFrame(made, frame, np.ones(4, np.float32) / 2))
    assert item is not None
    sink.write(*item)
    sink.close()
    (spool / "00000009-broken.json").write_text("{}")
    run = tmp_path / "run.jsonl"
    run.write_text("\n".join(drive()))
    assert (
        main(["report", str(run), "--spool", str(spool), "--png", str(tmp_path / "run.png")]) == 0
    )


def test_events_show_the_picture_that_was_kept_of_them(tmp_path: Path):
    report_with_a_capture(tmp_path)
    page = (tmp_path / "run.html").read_text()
    assert page.count("data:image/jpeg;base64,") == 1
    assert 'alt="snow"' in page
    assert (tmp_path / "run.png").read_bytes().startswith(b"\x89PNG")
