"""A sink that runs in the pipeline's own thread, because its ``write`` only keeps a reference."""

from __future__ import annotations

import logging

from edge_runtime.errors import EdgeLabelError, one_line
from edge_runtime.records import LabelledFrame
from edge_runtime.sinks.base import Sink

log = logging.getLogger("edge_label.sinks")


class InlineSink:
    """Runs a sink whose ``write`` takes microseconds and makes no system call.

    Such a sink needs no queue, and no thread has to wake up for every frame.
    """

    def __init__(self, sink: Sink) -> None:
        self.sink = sink
        self.lost = 0
        self.failure: EdgeLabelError | None = None

    def put(self, labelled: LabelledFrame) -> None:
        """Call ``write`` here and now. Whatever it raises is logged once and counted as a loss."""
        try:
            self.sink.write(labelled)
        except Exception as error:  # a bug in a page or a metric must not stop the labelling
            if not self.lost:
                log.warning("%s: %s; labelling goes on without it", self.sink.name, one_line(error))
                log.debug("the traceback of that error", exc_info=True)
            self.lost += 1

    def close(self, timeout_s: float = 3.0) -> None:
        """Close the sink. An error is logged."""
        try:
            self.sink.close()
        except Exception as error:
            log.warning("%s: cannot be closed: %s", self.sink.name, one_line(error))
