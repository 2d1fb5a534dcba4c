"""The state directory is the service's, else the user's own, else none."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge_runtime.system.state import state_folder


def test_the_service_s_folder_comes_first_then_the_user_s(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("STATE_DIRECTORY", "/var/lib/one:/var/lib/two")
    assert state_folder() == Path("/var/lib/one")
    monkeypatch.delenv("STATE_DIRECTORY")
    monkeypatch.setenv("XDG_STATE_HOME", "/home/me/state")
    assert state_folder() == Path("/home/me/state/edge-label")
    monkeypatch.delenv("XDG_STATE_HOME")
    monkeypatch.setenv("HOME", "/home/me")
    assert state_folder() == Path("/home/me/.local/state/edge-label")


def test_a_user_without_a_home_has_none(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("XDG_STATE_HOME")
    monkeypatch.setattr(Path, "home", _no_home)
    assert state_folder() is None


def _no_home() -> Path:
    raise RuntimeError("Could not determine home directory.")
