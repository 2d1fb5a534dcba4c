"""A signal sets a flag; a command that does not listen gets the signals that came meanwhile."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from edge_runtime.daemon.signals import Signals
from tests.daemon import REPOSITORY


@pytest.fixture
def signals() -> Iterator[Signals]:
    numbers = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
    handlers = [signal.getsignal(number) for number in numbers]
    yield Signals()
    for number, handler in zip(numbers, handlers, strict=True):
        signal.signal(number, handler)


def test_each_signal_sets_its_flag(signals: Signals):
    signal.raise_signal(signal.SIGHUP)
    assert (signals.stop, signals.reload) == (False, True)
    signal.raise_signal(signal.SIGINT)
    assert signals.stop


def test_a_sleep_ends_at_its_moment_or_at_a_signal(signals: Signals):
    signals.sleep_until(time.monotonic() - 1)
    signals.stop = True
    start = time.monotonic()
    signals.sleep_until(start + 60)
    assert time.monotonic() - start < 30


@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP"])
def test_a_signal_that_came_before_forget_still_ends_the_process(name: str):
    code = f"""
import signal
from edge_runtime.daemon.signals import Signals
signals = Signals()
signal.raise_signal(signal.{name})
signals.forget()
"""
    result = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, timeout=60)

    assert result.returncode == -getattr(signal, name)
