"""The measurement asks a real page, and says why a change was refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from edge_runtime.errors import DataError
from tools.measure.page_edit import Page, changed


def test_a_change_is_timed_until_its_scores_are_there(tmp_path: Path, tiny_bundle: Path) -> None:
    def add(labels: list[Any]) -> None:
        labels.append({"name": "grey", "group": "other"})

    def empty(labels: list[Any]) -> None:
        labels.clear()

    with Page(tmp_path, str(tiny_bundle), "colours") as page:
        seconds, child_s, peak_mb = changed(page, add, "grey")
        assert seconds > 0
        assert child_s == 0
        assert peak_mb > 20
        with pytest.raises(DataError, match="label set is empty"):
            changed(page, empty, "grey")
