"""What a sink is, and how the pipeline's loop sees it. Protocols only.

A sink is *what* happens to a record. A runner is *how* the sink gets it: `thread.SinkThread` runs a
sink behind a queue in a thread of its own, `inline.InlineSink` runs it in the pipeline's thread.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, runtime_checkable

from edge_runtime.config import Config
from edge_runtime.errors import EdgeLabelError
from edge_runtime.records import LabelledFrame


class Sink(Protocol):
    """Takes records one by one, in order, always in the same thread.

    ``write`` may raise OSError: the record is counted as lost, and the sink gets the next one. Any
    other exception counts as a loss too, but it is a bug, so it is logged with its traceback.
    """

    name: str

    @property
    def write(self) -> Callable[..., None]:
        """``write(labelled)`` delivers one `LabelledFrame`.

        Its ``frame`` is None unless the sink runs with ``pictures``. A sink with a `Chooser` gets
        the chooser's item instead.
        """

    def close(self) -> None:
        """Flush and release everything. Called once, from the thread that calls ``write``."""


@runtime_checkable
class Retiring(Protocol):
    """A sink that leaves something in another program, and clears it when a reload ends it."""

    def retire(self, successor: Config) -> None:
        """Called before ``close``: the sinks of ``successor`` follow this one."""


class Chooser(Protocol):
    """The half of a sink that runs in the pipeline's thread and chooses what the sink gets.

    Both methods take microseconds. The other half is the sink itself, in its own thread. The two
    halves share no state: all that the sink gets is the item that comes through the queue.
    """

    def choose(self, labelled: LabelledFrame) -> tuple[Any, ...] | None:
        """The arguments for ``write``, or None for a record that the sink does not need."""

    def dropped(self, *item: Any) -> None:
        """The queue was full, so ``write`` will never get this item; a later one may repeat it."""


class SinkRunner(Protocol):
    """How the pipeline's loop sees a sink, whichever way it runs."""

    sink: Sink
    failure: EdgeLabelError | None  # set when the run has no purpose without this sink

    @property
    def lost(self) -> int:
        """Records that did not get through."""

    def put(self, labelled: LabelledFrame) -> None:
        """Hand over a record. On a live source this does not wait."""

    def close(self, timeout_s: float = 3.0) -> None:
        """Write what is queued and close the sink, within ``timeout_s``."""
