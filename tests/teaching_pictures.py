"""Teaching pictures for the tiny bundle, and a label set whose words are all wrong about them."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from edge_runtime.cli import main

# By its words the tiny bundle calls a red picture a lawn and a green one an apple.
WRONG_WORDS = """\
labels:
  - {name: apple, prompts: [green]}
  - {name: lawn, prompts: [red]}
  - {name: sky, prompts: [blue]}
"""
COLOURS = {
    "red": (20, 20, 235),
    "green": (20, 235, 20),
    "blue": (235, 20, 20),
    "grey": (120, 120, 120),
}


def picture(path: Path, colour: str, seed: int) -> Path:
    """A picture of a colour with noise; each seed gives another one."""
    noise = np.random.default_rng(seed).integers(-20, 20, (40, 40, 3))
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), (np.array(COLOURS[colour]) + noise).astype(np.uint8))
    return path


def pictures(root: Path, **colours: str) -> Path:
    """Folders of four pictures, ``apple="red"``; underscores in names are spaces."""
    for place, (name, colour) in enumerate(colours.items()):
        for i in range(4):
            picture(root / name.replace("_", " ") / f"{i}.png", colour, 100 * place + i)
    return root


def labels(action: str, label_set: Path, bundle: Path, *more: object) -> int:
    """Run ``edge-label labels ACTION``; returns its exit code."""
    return main(["labels", action, str(label_set), *map(str, more), "--bundle", str(bundle)])
