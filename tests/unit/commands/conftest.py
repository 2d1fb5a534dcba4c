"""A folder of pictures to label, a label set to build, and a text encoder for it."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from tests.tiny_text import write_tiny_text_encoder
from tests.unit.commands.label_sets import SET

COLOURS = {"red": (0, 0, 255), "green": (0, 255, 0), "blue": (255, 0, 0)}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Thirty pictures, one of them broken, and a file that is none."""
    root = tmp_path / "pictures"
    (root / "below").mkdir(parents=True)
    for i in range(30):
        name, colour = list(COLOURS.items())[i % 3]
        place = root / "below" if i % 2 else root
        noise = np.random.default_rng(i).integers(0, 60, (40, 40, 3))
        cv2.imwrite(
            str(place / f"{i:02d}-{name}.png"), np.abs(np.array(colour) - noise).astype(np.uint8)
        )
    (root / "04-green.png").write_bytes(b"broken")
    (root / "notes.txt").write_text("no picture")
    return root


@pytest.fixture
def encoder(tmp_path):
    return write_tiny_text_encoder(tmp_path / "encoder")


@pytest.fixture
def label_set(tmp_path):
    path = tmp_path / "my.yaml"
    path.write_text(SET)
    return path
