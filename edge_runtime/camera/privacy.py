"""What may be seen of a picture: cut to a region, with polygons blacked out.

It comes before everything else that looks at a frame.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_runtime.camera.decode import FULL_SIZE, decode, encoding_of
from edge_runtime.config import PrivacyConfig
from edge_runtime.records import Frame
from edge_runtime.system.opencv import cv2


class Privacy:
    """Callable: the camera's Frame -> the Frame that may be seen.

    Everything after it works on the new frame and never on the camera's own. The camera's JPEG is
    replaced too, by the masked pixels at full size.
    """

    def __init__(self, config: PrivacyConfig) -> None:
        self._region = config.region
        self._masks = [np.asarray(polygon, np.float64) for polygon in config.masks]

    @classmethod
    def of(cls, config: PrivacyConfig) -> Privacy | None:
        """None where nothing is to be hidden: frames then stay as the camera sent them."""
        return cls(config) if config.region or config.masks else None

    def __call__(self, frame: Frame) -> Frame:
        """A new frame, upright and without what is hidden.

        Raises DataError for a frame that does not decode.
        """
        pixels = self.apply(decode(frame, FULL_SIZE))
        return replace(frame, data=pixels, encoding=encoding_of(pixels), turn=None)

    def apply(self, pixels: NDArray[Any]) -> NDArray[Any]:
        """A copy of (H, W[, 3]) pixels with the polygons black, cut to the region.

        Polygons and region are fractions of W and H, of the upright picture.
        """
        height, width = pixels.shape[:2]
        seen = pixels.copy()  # the capture thread still compares the original with the next frame
        for polygon in self._masks:
            corners = np.rint(polygon * (width, height)).astype(np.int32)
            cv2.fillPoly(seen, [corners], (0, 0, 0))
        if self._region is None:
            return seen

        left, top, region_w, region_h = self._region
        x = int(left * width)
        y = int(top * height)
        right = max(x + 1, round((left + region_w) * width))  # at least one pixel
        bottom = max(y + 1, round((top + region_h) * height))
        return np.ascontiguousarray(seen[y:bottom, x:right])
