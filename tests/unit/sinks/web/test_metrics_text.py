"""Metrics as text: labels are quoted, buckets add up, a metric without samples is left out."""

from __future__ import annotations

from edge_runtime.sinks.web.metrics_text import histogram, metric


def test_a_metric_is_its_help_its_type_and_a_line_for_each_sample():
    assert metric("up", "gauge", "Up.", [({}, 1), ({"label": 'a "b"'}, 0.25)]) == (
        '# HELP up Up.\n# TYPE up gauge\nup 1\nup{label="a \\"b\\""} 0.25\n'
    )


def test_a_metric_without_samples_is_left_out():
    assert metric("up", "gauge", "Up.", []) == ""


def test_the_buckets_of_a_histogram_are_cumulative():
    assert histogram("t", "Time.", (0.1, 1.0), (2, 3, 1), 4.5).splitlines()[2:] == [
        't_bucket{le="0.1"} 2',
        't_bucket{le="1"} 5',
        't_bucket{le="+Inf"} 6',
        "t_sum 4.5",
        "t_count 6",
    ]
