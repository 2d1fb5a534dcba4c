"""A dead thread is noticed and named, and the first one that died is the reason."""

from __future__ import annotations

import threading

import pytest

from edge_runtime.daemon.threads import ThreadDeaths
from edge_runtime.errors import StuckError


def die(name: str, error: Exception) -> None:
    def work() -> None:
        raise error

    thread = threading.Thread(target=work, name=name)
    thread.start()
    thread.join()


def test_the_first_thread_that_died_is_named():
    hook = threading.excepthook
    deaths = ThreadDeaths()

    try:
        deaths.check()
        die("sink-mqtt", ValueError("bad packet\nsecond line"))
        die("sink-file", KeyError("later"))
        with pytest.raises(StuckError, match=r"^thread sink-mqtt died of ValueError: bad packet;"):
            deaths.check()
    finally:
        deaths.close()

    assert threading.excepthook is hook
