"""What a library costs is measured in a process of its own, and a missing one is named."""

from __future__ import annotations

import pytest

from tools.measure import imports


def test_a_library_that_is_not_installed_is_said_so():
    assert imports._cost(["no_such_library"], 0.0) == ("not installed", "")
    assert imports._cost(["no_such_library.part"], 0.0) == ("not installed", "")


def test_a_large_library_costs_more_than_a_small_one(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(imports, "REPEATS", 1)
    large = imports._child(["http.server"])["at_import"]
    small = imports._child(["colorsys"])["at_import"]
    assert large > small + 1
