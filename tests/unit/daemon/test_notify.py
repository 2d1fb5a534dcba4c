"""The service manager hears every state, and its absence is no error."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from edge_runtime.daemon import notify
from edge_runtime.daemon.notify import Notifier


@pytest.fixture(params=["path", "abstract"])
def manager(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[socket.socket]:
    """The service manager's end of $NOTIFY_SOCKET, on a path or an abstract address."""
    address = str(tmp_path / "notify")
    if request.param == "abstract":
        address = f"@edge-label-test-{tmp_path.name}"

    monkeypatch.setenv("NOTIFY_SOCKET", address)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as server:
        server.settimeout(5)
        server.bind(address.replace("@", "\0", 1))
        yield server


def test_every_state_is_one_datagram(manager: socket.socket):
    notifier = Notifier()
    notifier.ready("loaded")
    notifier.alive("snow")
    notifier.reloading()
    notifier.stopping("end")

    messages = [manager.recv(4096).decode() for _ in range(4)]
    assert messages[0] == "READY=1\nSTATUS=loaded"
    assert messages[1] == "WATCHDOG=1\nSTATUS=snow"
    assert messages[2].startswith("RELOADING=1\nMONOTONIC_USEC=")
    assert messages[3] == "STOPPING=1\nSTATUS=end"


def test_the_watchdog_is_fed_once_a_second_at_most(
    manager: socket.socket, monkeypatch: pytest.MonkeyPatch
):
    times = iter([100.0, 100.5, 101.0])
    monkeypatch.setattr(notify.time, "monotonic", lambda: next(times))
    notifier = Notifier()
    for status in ("first", "too early", "second"):
        notifier.alive(status)

    messages = [manager.recv(4096).decode() for _ in range(2)]
    assert messages == ["WATCHDOG=1\nSTATUS=first", "WATCHDOG=1\nSTATUS=second"]


def test_a_manager_that_went_away_is_no_error(manager: socket.socket):
    notifier = Notifier()
    manager.close()
    notifier.ready("loaded")


def test_without_a_manager_nothing_is_sent(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    Notifier().ready("loaded")
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "nobody"))
    Notifier().ready("loaded")
