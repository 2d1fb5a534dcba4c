"""Videos and pictures from disk: every frame, in order, at full speed or paced with ``realtime``."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable
from pathlib import Path

from edge_runtime.camera.decode import encoding_of
from edge_runtime.config import CameraConfig
from edge_runtime.errors import DataError
from edge_runtime.files import is_special
from edge_runtime.jpeg_bytes import JPEG_START, is_cut_off
from edge_runtime.opencv import MAX_PIXELS, cv2
from edge_runtime.records import CameraState, Frame

log = logging.getLogger("edge_label.camera")

PICTURE_SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff"}


class _Replay:
    """What both share: pacing on the monotonic clock, the end, and no state but ok."""

    live = False
    state: CameraState = "ok"

    def __init__(self, name: str, fps: float, config: CameraConfig) -> None:
        self.name = name
        self.ended = False
        self._interval_s = 1 / fps if config.realtime else 0.0
        self._loop = config.loop
        self._due = time.monotonic()

    def _pace(self) -> float:
        """Sleep until the next frame is due; returns the milliseconds slept."""
        start = time.monotonic()
        if self._interval_s:
            self._due = max(self._due + self._interval_s, start - self._interval_s)
            if self._due > start:
                time.sleep(self._due - start)
        return (time.monotonic() - start) * 1e3


class VideoFile(_Replay):
    """A video file. Raises DataError when it cannot be opened, and at the first ``read`` when no frame decodes."""

    def __init__(self, path: Path, config: CameraConfig) -> None:
        self._path = path
        if is_special(path):
            raise DataError(f"{path}: not a file; give a video file")
        self._capture = cv2.VideoCapture(utf8_name(path), cv2.CAP_FFMPEG)
        fps = self._capture.get(cv2.CAP_PROP_FPS)
        if not self._capture.isOpened() or not fps:
            self._capture.release()
            raise DataError(f"{path}: not a video that can be read; ffprobe tells what it is")
        super().__init__(str(path), fps, config)
        self._fps = fps
        self._frames = 0

    def read(self, timeout_s: float) -> Frame | None:
        wait_ms = self._pace()
        start = time.monotonic()
        ok, data = self._capture.read()
        if not ok and self._frames and self._loop:
            self._capture.set(cv2.CAP_PROP_POS_FRAMES, 0)
            ok, data = self._capture.read()
        if not ok:
            if not self._frames:
                raise DataError(f"{self._path}: no frame of the video can be decoded; is it damaged?")
            self.ended = True
            promised = self._capture.get(cv2.CAP_PROP_FRAME_COUNT)
            if not self._loop and self._frames < 0.9 * promised:
                log.warning("%s: ended after %d of about %d frames; is it cut off?", self._path, self._frames, promised)
            return None
        self._frames += 1
        now = time.monotonic()
        return Frame(data, "bgr", now, time.time(), wait_ms, (now - start) * 1e3, video_s=self._frames / self._fps)

    def close(self) -> None:
        self._capture.release()


class PictureFolder(_Replay):
    """The pictures of a folder and below, sorted by name. Broken ones are logged, counted and passed over."""

    def __init__(self, root: Path, config: CameraConfig, paths: list[Path] | None = None) -> None:
        self._root = root
        self._paths = paths or self.below(root)
        super().__init__(str(root), config.fps, config)
        self._at = 0
        self.broken = 0

    @classmethod
    def of_one(cls, path: Path, config: CameraConfig) -> PictureFolder:
        """A single picture as a source."""
        return cls(path.parent, config, [path])

    @classmethod
    def below(cls, root: Path) -> list[Path]:
        """All pictures of a folder and below, sorted. Raises DataError when there is none, or none to be seen."""
        if not os.access(root, os.R_OK | os.X_OK):  # rglob passes over what it may not read without a word
            raise DataError(f"{root}: this user may not look into it; check it with ls -ld")
        found = sorted(path for path in root.rglob("*") if cls.is_picture(path))
        if not found:
            raise DataError(f"{root}: no pictures in it ({', '.join(sorted(PICTURE_SUFFIXES))})")
        return found

    @staticmethod
    def is_picture(path: Path) -> bool:
        """By its suffix."""
        return path.suffix.lower() in PICTURE_SUFFIXES

    def read(self, timeout_s: float) -> Frame | None:
        wait_ms = self._pace()
        while True:
            if self._at == len(self._paths) and self._loop and self.broken < len(self._paths):
                self._at = self.broken = 0
            if self._at == len(self._paths):
                self.ended = True
                if self.broken == len(self._paths):
                    raise DataError(f"{self.name}: none of its {self.broken} pictures can be read")
                return None
            path = self._paths[self._at]
            self._at += 1
            start = time.monotonic()
            try:
                _refuse_cut_off(path)
                data = read_picture(path)
            except DataError as error:
                if len(self._paths) == 1:
                    raise
                self.broken += 1
                log.warning("%s", error)
                continue
            now = time.monotonic()
            file = str(path.relative_to(self._root))
            return Frame(data, encoding_of(data), now, time.time(), wait_ms, (now - start) * 1e3, file=file)

    def close(self) -> None:
        self._at = len(self._paths)


def utf8_name(path: Path) -> str:
    """The path as OpenCV takes it. Raises DataError for a name that is not UTF-8: on such a one OpenCV crashes."""
    name = str(path)
    try:
        name.encode()
    except UnicodeEncodeError:
        raise DataError(f"{path}: its name is not UTF-8; rename it") from None
    return name


def _refuse_cut_off(path: Path) -> None:
    """Half a JPEG: libjpeg would fill the rest with grey, and say so without the file's name."""
    if is_special(path):  # to open a pipe is to wait for ever
        raise DataError(f"{path}: not a file; take it away")
    try:
        with path.open("rb") as file:
            start = file.read(2)
            if start == JPEG_START and is_cut_off(start + file.read(MAX_PIXELS)):
                raise DataError(f"{path}: a JPEG that is cut off; fetch it again")
    except OSError:
        pass  # read_picture says it


def read_picture(path: Path) -> cv2.typing.MatLike:
    """Decode one picture: uint8 BGR (H, W, 3), or one channel (H, W) of uint8, uint16 or float. Raises DataError.

    Infrared and depth keep their 16 bits; colour of 16 bits becomes 8.
    """
    read: Callable[[str, int], cv2.typing.MatLike | None] = cv2.imread
    try:
        data = read(utf8_name(path), cv2.IMREAD_ANYCOLOR | cv2.IMREAD_ANYDEPTH)
    except cv2.error:  # over OPENCV_IO_MAX_IMAGE_PIXELS
        data = None
    if data is None:
        reason = "no such file" if not path.exists() else "not a picture that can be decoded, or over 64 megapixels"
        raise DataError(f"{path}: {reason}")
    if data.ndim == 3 and data.dtype == "uint16":
        return (data >> 8).astype("uint8")
    if data.dtype not in (("uint8",) if data.ndim == 3 else ("uint8", "uint16", "float32", "float64")):
        raise DataError(f"{path}: pixels of {data.dtype} are not a picture; convert it to 8 or 16 bits")
    return data
