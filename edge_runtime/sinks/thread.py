"""A sink that runs in a thread of its own, behind a bounded queue."""

from __future__ import annotations

import logging
import queue
import threading
import time
from typing import Any

from edge_runtime.errors import DataError, EdgeLabelError, StuckError
from edge_runtime.records import LabelledFrame
from edge_runtime.sinks.base import Chooser, Sink

log = logging.getLogger("edge_label.sinks")

CAPACITY = 256  # records in the queue: eight seconds at 30 frames a second
PICTURES_CAPACITY = 4  # records with pixels in the queue: a raw 640x480 frame is 0.9 MB
SETTLED_S = 5.0  # a sink works again when its last failure is this long ago
_LOOK_S = 1.0  # how often a lossless ``put`` that waits checks that the sink's thread is alive


class SinkThread:
    """Runs one sink behind a queue.

    Args:
        sink: What to run.
        lossless: ``put`` waits while the queue is full. This is for files, where every frame is to
            be labelled. On a live source ``put`` never waits: the oldest item is dropped and
            counted.
        vital: The run has no purpose without this sink. The first record that the sink cannot take
            becomes ``failure``, and no other is written after it.
        pictures: The queue holds the frames' pixels too. Without it they are left out, because 256
            raw frames are more than all of our memory.
        capacity: The queue's length in items; None for the usual one.
        chooser: Chooses the items. Without one every record is an item.
    """

    def __init__(
        self,
        sink: Sink,
        *,
        lossless: bool,
        vital: bool = False,
        pictures: bool = False,
        capacity: int | None = None,
        chooser: Chooser | None = None,
    ) -> None:
        self.sink = sink
        self.failure: EdgeLabelError | None = None
        self._lossless = lossless
        self._vital = vital
        self._pictures = pictures
        self._chooser = chooser

        # Each counter belongs to one thread: two threads that add to the same one would lose
        # counts.
        self._displaced = 0  # the pipeline's thread
        self._failed = 0  # the sink's thread
        self._written = 0  # the sink's thread

        default = PICTURES_CAPACITY if pictures else CAPACITY
        self._queue: queue.Queue[tuple[Any, ...] | None] = queue.Queue(capacity or default)
        self._thread = threading.Thread(target=self._run, name=f"sink-{sink.name}", daemon=True)
        self._thread.start()

    @property
    def lost(self) -> int:
        """Items that were dropped from a full queue, and items that the sink could not take."""
        return self._displaced + self._failed

    def put(self, labelled: LabelledFrame) -> None:
        """Queue the item for this record, if there is one.

        Raises StuckError when a lossless queue is full and the sink's thread has died.
        """
        item = self._item(labelled)
        while item is not None:
            try:
                self._queue.put(item, self._lossless, _LOOK_S)
            except queue.Full:
                if self._lossless:
                    self._check_thread()
                else:
                    self._drop_oldest()
            else:
                return

    def _item(self, labelled: LabelledFrame) -> tuple[Any, ...] | None:
        if self._chooser is not None:
            return self._chooser.choose(labelled)
        if self._pictures:
            return (labelled,)
        return (LabelledFrame(labelled.record),)

    def _check_thread(self) -> None:
        if not self._thread.is_alive():
            raise StuckError(
                f"{self.sink.name}: its thread has died", "only a new process can help"
            )

    def _drop_oldest(self) -> bool:
        """Drop the oldest item; False when the queue is empty."""
        try:
            item = self._queue.get_nowait()
        except queue.Empty:
            return False

        if item is not None:
            self._displaced += 1
            if self._chooser is not None:
                self._chooser.dropped(*item)
        return True

    def close(self, timeout_s: float = 3.0) -> None:
        """Write what is queued, close the sink, and give up after ``timeout_s``."""
        deadline = time.monotonic() + timeout_s
        try:
            self._queue.put(None, timeout=timeout_s)
        except queue.Full:
            pass

        self._thread.join(max(0.0, deadline - time.monotonic()))
        if self._thread.is_alive():
            self._abandon()

    def _abandon(self) -> None:
        """Give up a sink that is stuck in ``write``, and all that is queued for it."""
        if self._vital and self.failure is None:
            self.failure = self._end_of_run("takes no more records")
        log.warning(
            "%s: still stuck, up to %d records not written",
            self.sink.name,
            self._queue.qsize() + 1,
        )

        # The thread may come free later. It must then find the end of the queue, and no item that
        # has already been counted as lost.
        while self._drop_oldest():
            pass
        self._queue.put(None)

    def _run(self) -> None:
        failed_at: float | None = None
        while (item := self._queue.get()) is not None:
            if self.failure is not None:
                self._failed += 1
                continue

            try:
                self.sink.write(*item)
            except Exception as error:  # a dead thread would block a lossless ``put`` for ever
                self._failed += 1
                if self._vital and isinstance(error, OSError):
                    self.failure = self._end_of_run(error.strerror or str(error))
                elif failed_at is None:
                    self._warn(error, "labelling goes on, records are lost")
                failed_at = time.monotonic()
                continue

            self._written += 1
            # Not at the first success: a sink that fails now and then must not fill the log.
            if failed_at is not None and time.monotonic() - failed_at >= SETTLED_S:
                log.warning("%s: works again after %d lost records", self.sink.name, self.lost)
                failed_at = None

        try:
            self.sink.close()
        except Exception as error:
            self._warn(error, "what it held back is lost")

    def _end_of_run(self, reason: str) -> EdgeLabelError:
        written = f"the first {self._written} records of this run are complete"
        return DataError(
            f"{self.sink.name}: {reason}; {written}",
            "make room and run it again, or choose another output",
        )

    def _warn(self, error: Exception, consequence: str) -> None:
        reason = (isinstance(error, OSError) and error.strerror) or error
        is_bug = not isinstance(error, OSError)  # then the log shows where
        log.warning("%s: %s; %s", self.sink.name, reason, consequence, exc_info=is_bug)
