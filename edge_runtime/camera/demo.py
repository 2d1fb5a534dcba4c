"""A synthetic camera over real photographs: slow pans and zooms, offline, the same every time.

The photographs are in scikit-image's wheel. Only its data folder is used; the package is never
imported.
"""

from __future__ import annotations

import importlib.util
import math
import time
from pathlib import Path

from edge_runtime.config import CameraConfig
from edge_runtime.errors import NoInputError
from edge_runtime.records import Frame
from edge_runtime.system.opencv import cv2

PHOTOGRAPHS = ("chelsea.png", "coffee.png", "motorcycle_left.png", "rocket.jpg", "astronaut.png")
SECONDS_EACH = 2.0


class DemoCamera:
    """A Device that delivers ``config.fps`` frames a second at the configured size.

    Raises NoInputError where the photographs are not installed.
    """

    def __init__(self, config: CameraConfig) -> None:
        folder = _photograph_folder()
        self._pictures = [cv2.imread(str(folder / name)) for name in PHOTOGRAPHS]
        self._size = (config.width, config.height)
        self._interval_s = 1 / config.fps
        self._frames_each = max(1, round(SECONDS_EACH * config.fps))
        self._count = 0
        self._due = time.monotonic()

    def grab(self) -> Frame:
        self._due += self._interval_s
        time.sleep(max(0.0, self._due - time.monotonic()))

        index, step = divmod(self._count, self._frames_each)
        self._count += 1
        picture = self._pictures[index % len(self._pictures)]
        view = self._view(picture, step / self._frames_each)
        return Frame(view, "bgr", time.monotonic(), time.time())

    def _view(self, picture: cv2.typing.MatLike, t: float) -> cv2.typing.MatLike:
        """The camera's window at ``t`` in 0..1: a tenth in and out, a little from side to side."""
        height, width = picture.shape[:2]
        aspect = self._size[0] / self._size[1]
        zoom = 0.95 - 0.05 * math.cos(2 * math.pi * t)
        window_h = int(min(height, width / aspect) * zoom)
        window_w = int(window_h * aspect)

        left = int((width - window_w) * (0.5 + 0.4 * math.sin(2 * math.pi * t)))
        top = (height - window_h) // 2
        window = picture[top : top + window_h, left : left + window_w]
        return cv2.resize(window, self._size)

    def close(self) -> None:
        pass


def _photograph_folder() -> Path:
    spec = importlib.util.find_spec("skimage")
    locations = spec.submodule_search_locations if spec else None
    for location in locations or ():
        folder = Path(location) / "data"
        if all((folder / name).is_file() for name in PHOTOGRAPHS):
            return folder
    raise NoInputError(
        "demo: its photographs are not installed", "pip install 'edge-label[demo]' (scikit-image)"
    )
