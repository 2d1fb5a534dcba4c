"""cv2, configured before its first use. ``camera/`` and ``model/preprocess.py`` import it from here, nobody else."""

from __future__ import annotations

import os

MAX_PIXELS = 1 << 26

_SETTINGS = {
    # A stalled V4L2 camera blocks read() this many seconds (default 10); read only before the first capture.
    "OPENCV_VIDEOIO_V4L_SELECT_TIMEOUT": "3",
    # 64 megapixels: a picture whose header promises more is refused before a byte of it is decoded.
    "OPENCV_IO_MAX_IMAGE_PIXELS": str(MAX_PIXELS),
}
# OpenCV and FFmpeg print pages about a missing camera, its password in the midst of them; edge-label says it in one
# line. Not to be overridden: a level that was set for another program would print this one's passwords.
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
