"""What a sink is, and the thread every sink runs in."""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable
from typing import Any, Protocol

from edge_runtime.errors import DataError, EdgeLabelError, StuckError, one_line
from edge_runtime.records import LabelledFrame

log = logging.getLogger("edge_label.sinks")

CAPACITY = 256
SETTLED_S = 5.0
_LOOK_S = 1.0  # how long to wait for room before looking whether anybody is still making some
PICTURES_CAPACITY = 4  # a raw 640x480 frame is 0.9 MB


class Sink(Protocol):
    """Takes records one by one, in order, in one thread. May raise OSError: the record is lost, the sink lives on.

    So it does after any other exception, which is a mistake of ours and logged with its traceback.
    """

    name: str

    @property
    def write(self) -> Callable[..., None]:
        """``write(labelled)`` delivers one `LabelledFrame`, whose frame is None unless the sink runs with ``pictures``.

        A sink with a ``Chooser`` gets that one's item instead."""

    def close(self) -> None:
        """Flush and release. Called once, from the sink's own thread."""


class Outlet(Protocol):
    """How the pipeline's loop sees a sink, whichever way it runs. A run ends when one has a ``failure``."""

    sink: Sink
    failure: EdgeLabelError | None

    @property
    def lost(self) -> int:
        """Records that did not get through."""

    def put(self, labelled: LabelledFrame) -> None:
        """Hand a record over without waiting."""

    def close(self, timeout_s: float = 3.0) -> None:
        """Flush what is left and close the sink, within ``timeout_s``."""


class Chooser(Protocol):
    """The pipeline's half of a sink that does not want every record.

    Both methods run in the pipeline's thread and take microseconds. The other half is the sink itself, in its own
    thread. The two share nothing: all that the sink gets is the item that comes through the queue.
    """

    def wants(self, labelled: LabelledFrame) -> tuple[Any, ...] | None:
        """The item: what ``write`` is to be called with. None: nothing, and no thread is woken."""

    def dropped(self, *item: Any) -> None:
        """``write`` will never see this item, because the queue was full. What it was to tell may be told again."""


class SinkThread:
    """Runs one sink. ``put`` never waits on a live source: when the queue is full the oldest item is lost and
    counted. For files (``lossless``) it waits, because there every frame is to be labelled and written.

    Only with ``pictures`` does the queue hold the frames' pixels: 256 raw frames would be more than all our memory.
    With ``vital`` the run is for nothing without this sink: the first record that it cannot take becomes ``failure``.
    Without a ``chooser`` every record is an item.
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
        self._chooser = chooser
        self._vital = vital
        self._written = 0
        self.failure: EdgeLabelError | None = None
        self._lossless = lossless
        self._pictures = pictures
        self._displaced = 0  # counted by the pipeline's thread only
        self._failed = (
            0  # counted by the sink's thread only: two threads on one counter would miss some
        )
        default = PICTURES_CAPACITY if pictures else CAPACITY
        self._queue: queue.Queue[tuple[Any, ...] | None] = queue.Queue(capacity or default)
        self._thread = threading.Thread(target=self._run, name=f"sink-{sink.name}", daemon=True)
        self._thread.start()

    @property
    def lost(self) -> int:
        """Items that a full queue gave up, and those that the sink could not take."""
        return self._displaced + self._failed

    def put(self, labelled: LabelledFrame) -> None:
        """Queue what the sink is to be told of a record, if anything."""
        item: tuple[Any, ...] | None
        if self._chooser is not None:
            item = self._chooser.wants(labelled)
        elif self._pictures:
            item = (labelled,)
        else:
            item = (LabelledFrame(labelled.record),)

        while item is not None:
            try:
                self._queue.put(item, self._lossless, _LOOK_S)
            except queue.Full:
                if self._lossless:
                    self._refuse_to_wait_for_the_dead()
                else:
                    self._displace()
            else:
                return

    def _refuse_to_wait_for_the_dead(self) -> None:
        if not self._thread.is_alive():
            raise StuckError(
                f"{self.sink.name}: its thread has died", "only a new process can help"
            )

    def _displace(self) -> bool:
        """Give up the oldest item; False when there is none."""
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
            if self._vital and self.failure is None:
                self.failure = self._ends("takes no more records")
            log.warning(
                "%s: still stuck, up to %d records not written",
                self.sink.name,
                self._queue.qsize() + 1,
            )
            # Should the thread come free again, it finds its end, and nothing that was counted as lost.
            while self._displace():
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
                self._written += 1
            except Exception as error:  # a thread that ends would hold up a file's frames for ever, and say nothing
                self._failed += 1
                if self._vital and isinstance(error, OSError):
                    self.failure = self._ends(error.strerror or str(error))
                elif failed_at is None:
                    self._warn(error, "labelling goes on, records are lost")
                failed_at = time.monotonic()
            else:
                # A sink that fails every now and then must not fill the log with its ups and downs.
                if failed_at is not None and time.monotonic() - failed_at >= SETTLED_S:
                    log.warning("%s: works again after %d lost records", self.sink.name, self.lost)
                    failed_at = None
        try:
            self.sink.close()
        except Exception as error:
            self._warn(error, "what it held back is lost")

    def _ends(self, why: str) -> EdgeLabelError:
        whole = f"the first {self._written} records of this run are written whole"
        return DataError(
            f"{self.sink.name}: {why}; {whole}; make room and run it again, or choose another output"
        )

    def _warn(self, error: Exception, consequence: str) -> None:
        why = (isinstance(error, OSError) and error.strerror) or error
        mistake = not isinstance(error, OSError)  # of ours: the log shows where
        log.warning("%s: %s; %s", self.sink.name, why, consequence, exc_info=mistake)


class InlineSink:
    """Runs a sink whose ``write`` only takes a note (microseconds, no system call): no queue, no thread to wake."""

    def __init__(self, sink: Sink) -> None:
        self.sink = sink
        self.lost = 0
        self.failure: EdgeLabelError | None = None

    def put(self, labelled: LabelledFrame) -> None:
        """Let the sink take its note, here and now."""
        try:
            self.sink.write(labelled)
        except Exception as error:  # no page is worth a frame
            if not self.lost:
                log.warning("%s: %s; labelling goes on without it", self.sink.name, one_line(error))
                log.debug("where that was", exc_info=True)
            self.lost += 1

    def close(self, timeout_s: float = 3.0) -> None:
        """Close the sink."""
        try:
            self.sink.close()
        except Exception as error:
            log.warning("%s: cannot be closed: %s", self.sink.name, one_line(error))
