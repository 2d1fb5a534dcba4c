"""Axes have round steps, and times are written as people write them."""

from __future__ import annotations

import numpy as np
import pytest

from edge_runtime.commands.report.figures import (
    MAX_TICKS,
    axis_top,
    buckets,
    clock,
    longest_on,
    mean_fps,
    medians,
    ticks,
)
from edge_runtime.commands.report.run import read_run
from tests.unit.commands.report.runs import drive, line


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.5, "0.5 s"), (59, "59 s"), (150, "2:30 min"), (11_100, "3:05:00 h")]
)
def test_a_duration_is_written_as_a_person_writes_it(seconds: float, text: str):
    assert clock(seconds) == text


@pytest.mark.parametrize(
    ("value", "top"), [(0, 1), (0.7, 1), (1.2, 2), (21, 25), (26, 50), (99, 100), (101, 200)]
)
def test_an_axis_ends_at_a_round_number(value: float, top: float):
    assert axis_top(value) == top


@pytest.mark.parametrize("duration_s", [0, 0.4, 9.9, 700, 86_399, 10 * 86_400, 3e9])
def test_marks_are_few_and_within_the_run(duration_s: float):
    marks = list(ticks(duration_s))
    assert 1 <= len(marks) <= MAX_TICKS + 1
    assert all(t <= duration_s for t, _ in marks)


def test_the_mean_rate_leaves_the_gap_of_a_restart_out():
    again = [line(i, "snow", mono_s=3 + i / 10, boot_id="another") for i in range(50)]
    assert mean_fps(read_run(drive(), "x")) == pytest.approx(10)
    assert mean_fps(read_run([*drive(), *again], "x")) == pytest.approx(10)


def test_labels_are_ordered_by_how_long_they_were_on():
    assert longest_on(read_run(drive(), "x")) == ["snow", "tunnel"]


def test_buckets_take_equal_times_and_one_without_numbers_has_no_median():
    run = read_run(drive(), "x")
    parts = buckets(run, np.asarray(run.t), 5)
    assert [len(part) for part in parts] == [20, 20, 20, 20, 20]
    assert np.isnan(medians([np.array([np.nan]), np.array([])])).all()
