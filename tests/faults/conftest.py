"""What every fault starts from."""

from __future__ import annotations

import pytest

from edge_runtime.sinks.files import room


@pytest.fixture(autouse=True)
def _nobody_else_gives_room(monkeypatch: pytest.MonkeyPatch) -> None:
    """A full disk asks only the sinks of this test, and not those that an earlier test left."""
    monkeypatch.setattr(room, "_keepers", [])
    monkeypatch.setattr(room, "_logged", False)
