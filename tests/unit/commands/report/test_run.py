"""Lines become columns, spans and states, whatever a killed run left behind."""

from __future__ import annotations

import numpy as np
import pytest

from edge_runtime.commands.report.run import read_run
from edge_runtime.errors import DataError
from tests.unit.commands.report.runs import drive, line


def test_spans_say_from_when_to_when_a_label_was_on():
    run = read_run(drive(), "x")
    spans = [(s.label, round(s.start_s, 1), round(s.end_s, 1)) for s in run.spans]
    assert spans == [("snow", 2.0, 5.0), ("tunnel", 4.0, 6.0), ("snow", 8.0, 8.1)]
    assert run.duration_s == pytest.approx(9.9)
    assert sum(run.drops) == 9
    assert [(round(a, 1), round(b, 1), state) for a, b, state in run.states] == [
        (0.0, 2.0, "unknown"),
        (2.0, 6.0, "ok"),
        (6.0, 8.0, "unknown"),
        (8.0, 8.1, "ok"),
        (8.1, 9.9, "unknown"),
    ]


def test_a_torn_line_and_rubbish_are_counted_and_passed_over():
    lines = drive()
    lines[10] = lines[10][:100]
    lines[20:20] = [
        "",
        "rubbish",
        "[1]",
        '{"schema":"edge-label-event/1"}',
        '{"schema":"edge-label/1","seq":1}',
    ]
    run = read_run(lines, "x")
    assert len(run.t) == 99
    assert run.unreadable == 5
    assert {len(column) for column in run.values.values()} == {99}


def test_a_file_without_records_is_a_data_error():
    with pytest.raises(DataError, match="holds no record of edge-label"):
        read_run(["rubbish", ""], "x")


def test_a_restart_is_a_gap_and_not_a_jump_in_time():
    again = [line(i, "snow", mono_s=3 + i / 10, boot_id="another") for i in range(50)]
    run = read_run([*drive(), *again], "x")
    assert len(run.restarts) == 1
    assert run.duration_s == pytest.approx(9.9 + 1 + 4.9)
    assert (np.diff(np.asarray(run.t)) > 0).all()
    same_boot = [line(i, "snow", mono_s=80 + i / 10) for i in range(50)]
    assert len(read_run([*drive(), *same_boot], "x").restarts) == 1


def test_a_wall_clock_that_jumps_bends_nothing():
    straight = read_run(drive(), "x")
    jumping = read_run(
        [text.replace("2023-", "1970-") if i % 2 else text for i, text in enumerate(drive())], "x"
    )
    assert list(jumping.t) == list(straight.t)
