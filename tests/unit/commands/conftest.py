"""A folder of pictures to label."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

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
