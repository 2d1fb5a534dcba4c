"""A page with its editor."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.unit.sinks.web.editing import Bench


@pytest.fixture
def bench(tmp_path: Path, tiny_bundle: Path) -> Iterator[Bench]:
    made = Bench(tmp_path, tiny_bundle)
    made.see("red")
    yield made
    made.close()
