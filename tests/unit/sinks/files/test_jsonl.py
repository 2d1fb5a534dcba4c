"""One record, one line, there as soon as it is written."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from edge_runtime.errors import ConfigError
from edge_runtime.records import LabelledFrame
from edge_runtime.sinks.console import live_line
from edge_runtime.sinks.files.jsonl import JsonlFileSink
from tests.unit.test_records import record


def test_lines_are_appended_and_on_disk_at_once(tmp_path: Path):
    path = tmp_path / "run.jsonl"
    path.write_text('{"old": 1}\n')
    sink = JsonlFileSink(path, None)
    sink.write(LabelledFrame(record(seq=7)))
    assert [json.loads(line) for line in path.read_text().splitlines()][1]["seq"] == 7
    sink.close()


def test_a_place_that_cannot_be_written_is_one_line(tmp_path: Path):
    with pytest.raises(ConfigError, match="cannot write there"):
        JsonlFileSink(tmp_path / "none" / "run.jsonl", None)


def test_the_live_line_tells_what_is_on_or_why_nothing_is():
    assert "name 0.75" in live_line(record())
    assert "low information" in live_line(record(state="low_information", labels=()))
