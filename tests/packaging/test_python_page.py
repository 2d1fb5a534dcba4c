"""The Python of docs/python.md runs as it stands, from the first block to the last."""

from __future__ import annotations

import re
from pathlib import Path

import cv2
import numpy as np

import edge_runtime as edge
from tests.packaging.pages import blocks, run_python
from tests.paths import REPOSITORY

PAGE = (REPOSITORY / "docs" / "python.md").read_text()


def test_the_blocks_of_the_page_run_one_after_the_other(tmp_path: Path):
    random = np.random.default_rng(0)
    for name in ("photo.jpg", "other.jpg"):
        pixels = random.integers(0, 256, (96, 128, 3), dtype=np.uint8)
        assert cv2.imwrite(str(tmp_path / name), pixels)

    lines = run_python("\n".join(blocks(PAGE, "python")), tmp_path)

    assert lines[0] in ("ok", "unknown", "low_information")
    assert any(line.startswith("similarity of the two pictures: 0.") for line in lines)
    assert "missing.jpg: no such file" in lines


def test_the_page_names_only_what_the_package_has():
    names = set(re.findall(r"\bedge\.(\w+)", PAGE))
    table = set(re.findall(r"^\| `(\w+)` \|", PAGE, re.MULTILINE))
    errors = {name for name in edge.__all__ if name.endswith("Error") and name != "EdgeLabelError"}

    assert names <= set(edge.__all__)
    assert table == errors
