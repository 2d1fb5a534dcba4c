"""A sink in the pipeline's own thread may fail; the pipeline never notices."""

from __future__ import annotations

import logging

import pytest

from edge_runtime.records import LabelledFrame
from edge_runtime.sinks.inline import InlineSink
from tests.unit.test_records import record


@pytest.mark.fault("P7")
def test_a_mistake_in_a_sink_without_a_thread_costs_no_frame(caplog: pytest.LogCaptureFixture):
    class Mistaken:
        name = "mistaken"

        def write(self, labelled) -> None:
            raise ValueError("a bug")

        def close(self) -> None:
            raise OSError(5, "Input/output error")

    runner = InlineSink(Mistaken())
    with caplog.at_level(logging.WARNING):
        for seq in range(3):
            runner.put(LabelledFrame(record(seq=seq)))
        runner.close()
    assert runner.lost == 3
    assert caplog.messages == [
        "mistaken: a bug; labelling goes on without it",
        "mistaken: cannot be closed: Input/output error",
    ]
