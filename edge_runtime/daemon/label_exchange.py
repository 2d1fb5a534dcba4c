"""Labels that the page offers, until the loop takes them between two frames.

The page's thread waits meanwhile, so it knows what came of its offer.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

from edge_runtime.engine import Engine
from edge_runtime.errors import ConfigError, EdgeLabelError
from edge_runtime.model.labels.compiled import CompiledLabels

PATIENCE_S = 60.0  # the loop waits 20 s for a frame of a silent camera before it looks here


class LabelExchange:
    """``offer`` is called by the page's thread, ``take`` by the loop."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._offered: tuple[CompiledLabels, Engine] | None = None
        self._settled = threading.Event()
        self._refusal: EdgeLabelError | None = None

    def offer(self, labels: CompiledLabels, instead_of: Engine) -> None:
        """Wait until ``labels`` are in use instead of those of an engine. One thread offers.

        Raises EdgeLabelError where they are refused, or nobody takes them.
        """
        with self._lock:
            self._offered = (labels, instead_of)
            self._refusal = None
            self._settled.clear()

        if not self._settled.wait(PATIENCE_S):
            with self._lock:
                was_taken = self._offered is None
                self._offered = None
            if not was_taken:
                raise ConfigError("no frame came, so the labels are not in use", "try again")
            self._settled.wait()  # the loop took it at the last moment
        if self._refusal is not None:
            raise self._refusal

    def take(self, present: Engine, use: Callable[[Engine], None]) -> None:
        """Call ``use`` with the engine of the offered labels, if any. It may raise EdgeLabelError.

        An offer for another engine than the present one is refused: a reload came first.
        """
        if self._offered is None:  # nearly always, so without the lock
            return
        with self._lock:
            offered = self._offered
            self._offered = None
        if offered is None:
            return

        labels, instead_of = offered
        try:
            if instead_of is not present:
                raise ConfigError("the configuration was loaded again meanwhile", "try again")
            use(present.with_labels(labels))
        except EdgeLabelError as error:
            self._refusal = error
        self._settled.set()
