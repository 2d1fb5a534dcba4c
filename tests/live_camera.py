"""Live sources under test: opening them, and reading until something is so."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from edge_runtime.camera import open_source
from edge_runtime.camera.live import LiveSource
from edge_runtime.config import CameraConfig
from edge_runtime.records import Frame
from tests.daemon import PATIENCE_S


@contextmanager
def live_sources() -> Iterator[Callable[..., LiveSource]]:
    """What opens and starts a source, with the settings of a camera; all are closed at the end."""
    sources: list[LiveSource] = []

    def of(name: str, **settings: object) -> LiveSource:
        source = open_source(CameraConfig(source=name, **settings))  # type: ignore[arg-type]
        assert isinstance(source, LiveSource)
        sources.append(source)
        source.start()
        return source

    yield of
    for source in sources:
        source.close()


def read_until(
    source: LiveSource,
    condition: Callable[[list[Frame]], object],
    timeout_s: float = PATIENCE_S,
) -> list[Frame]:
    """The frames that came before ``condition``, which is told of them, was true."""
    seen: list[Frame] = []
    deadline = time.monotonic() + timeout_s
    while not condition(seen):
        assert time.monotonic() < deadline, f"{len(seen)} frames; camera {source.state}"
        frame = source.read(0.05)
        if frame is not None:
            seen.append(frame)
    return seen


def frames(source: LiveSource, count: int) -> list[Frame]:
    """The next frames."""
    return read_until(source, lambda seen: len(seen) >= count)
