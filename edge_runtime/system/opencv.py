"""cv2, configured before its first use. Everything that needs cv2 imports it from here."""

from __future__ import annotations

import os

MAX_PIXELS = 1 << 26  # 64 megapixels

_SETTINGS = {
    # A stalled V4L2 camera blocks read() for so many seconds (default 10). OpenCV reads this only
    # before the first capture.
    "OPENCV_VIDEOIO_V4L_SELECT_TIMEOUT": "3",
    # A picture whose header promises more is refused before a byte of it is decoded.
    "OPENCV_IO_MAX_IMAGE_PIXELS": str(MAX_PIXELS),
}

# OpenCV and FFmpeg print pages about a missing camera, with its password; edge-label says it in one
# line. A user's own setting does not count: a level set for another program would print the
# passwords of this one.
_SILENCE = {
    "OPENCV_LOG_LEVEL": "SILENT",
    "OPENCV_FFMPEG_LOGLEVEL": "-8",
    "OPENCV_VIDEOIO_DEBUG": "0",
}

for _name, _value in _SETTINGS.items():
    os.environ.setdefault(_name, _value)
os.environ.update(_SILENCE)
os.environ.pop("OPENCV_FFMPEG_DEBUG", None)

import cv2  # noqa: E402 - reads the settings above when it loads

cv2.setNumThreads(1)  # frames this small lose more to waking threads than they gain

__all__ = ["MAX_PIXELS", "cv2"]
