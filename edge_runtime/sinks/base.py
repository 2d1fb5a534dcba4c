"""What a sink is, and the thread every sink runs in."""

from __future__ import annotations

import logging
import queue
import threading
import time
from typing import Protocol

from edge_runtime.records import Frame, LabelRecord

log = logging.getLogger("edge_label.sinks")

CAPACITY = 256


class Sink(Protocol):
    """Takes records one by one, in order, in one thread. May raise OSError: the record is lost, the sink lives on."""

    name: str

    def write(self, record: LabelRecord, frame: Frame) -> None:
        """Deliver one record; ``frame`` is what it was made from."""

    def close(self) -> None:
        """Flush and release. Called once, from the sink's own thread."""


class SinkThread:
    """Runs one sink. ``put`` never waits on a live source: when the queue is full the oldest record is lost and
    counted. For files (``lossless``) it waits, because there every frame is to be labelled and written.
    """

    def __init__(self, sink: Sink, *, lossless: bool, capacity: int = CAPACITY) -> None:
        self.sink = sink
        self.lost = 0
        self._lossless = lossless
        self._queue: queue.Queue[tuple[LabelRecord, Frame] | None] = queue.Queue(capacity)
        self._failing = False
        self._thread = threading.Thread(target=self._run, name=f"sink-{sink.name}", daemon=True)
        self._thread.start()

    def put(self, record: LabelRecord, frame: Frame) -> None:
        """Queue a record for the sink."""
        while True:
            try:
                self._queue.put((record, frame), block=self._lossless)
            except queue.Full:
                try:
                    self._queue.get_nowait()
                    self.lost += 1
                except queue.Empty:
                    pass
            else:
                return

    def close(self, timeout_s: float = 3.0) -> None:
        """Write what is queued, close the sink, and give up after ``timeout_s``."""
        deadline = time.monotonic() + timeout_s
        try:
            self._queue.put(None, timeout=timeout_s)
        except queue.Full:
            pass
        self._thread.join(max(0.0, deadline - time.monotonic()))
        if self._thread.is_alive():
            log.warning("%s: still stuck, up to %d records not written", self.sink.name, self._queue.qsize() + 1)

    def _run(self) -> None:
        while (item := self._queue.get()) is not None:
            try:
                self.sink.write(*item)
            except OSError as error:
                self.lost += 1
                if not self._failing:
                    log.warning("%s: %s; labelling goes on, records are lost", self.sink.name, error.strerror or error)
                self._failing = True
            else:
                if self._failing:
                    log.warning("%s: works again after %d lost records", self.sink.name, self.lost)
                self._failing = False
        self.sink.close()
