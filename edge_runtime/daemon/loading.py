"""The engine of a reload, loaded beside the loop: labelling goes on meanwhile.

A model takes a second to load, and the rows of new words take another. What is loaded is used by
the loop, between two frames, or not at all.
"""

from __future__ import annotations

from threading import Thread

from edge_runtime.config import Config
from edge_runtime.engine import Engine, start_engine


class Loading:
    """Starts to load what ``config`` asks for. ``old`` lends what has not changed.

    Raises RuntimeError where no thread can be started.
    """

    def __init__(self, config: Config, old: Engine) -> None:
        self.config = config
        self._result: Engine | BaseException
        self._thread = Thread(target=self._load, args=(old,), name="reload", daemon=True)
        self._thread.start()

    def _load(self, old: Engine) -> None:
        try:
            self._result = start_engine(self.config.model, old)
        except BaseException as error:
            # Whatever it is, the loop answers it.
            self._result = error

    @property
    def done(self) -> bool:
        """Whether ``engine`` has an answer."""
        return not self._thread.is_alive()

    def engine(self) -> Engine:
        """What was loaded. Raises what the loading raised."""
        self._thread.join()
        if isinstance(self._result, BaseException):
            raise self._result
        return self._result

    def wait(self, seconds: float) -> None:
        """Wait so long for the end: a process that ends while ONNX Runtime loads may crash."""
        self._thread.join(seconds)
