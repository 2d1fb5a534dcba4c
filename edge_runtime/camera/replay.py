"""Videos and pictures from disk: every frame, in order, at full speed or paced with ``realtime``."""

from __future__ import annotations

import logging
import time
from pathlib import Path

from edge_runtime.camera.decode import encoding_of
from edge_runtime.camera.pictures import check_file, pictures_below, read_picture, utf8_name
from edge_runtime.config import CameraConfig
from edge_runtime.errors import DataError, EdgeLabelError
from edge_runtime.records import CameraState, Frame
from edge_runtime.system.opencv import cv2

log = logging.getLogger("edge_label.camera")

MOST_FPS = 240.0  # who says more has no rate: browsers' WebM says 1000, as it counts milliseconds
LONGEST_STEP_S = 60.0  # between two frames; more is a break in the recording, not waited for
PATIENCE_S = 60.0  # for a frame that is not due yet


class _Replay:
    """What both share: pacing on the monotonic clock, the end, and no state but ok."""

    live = False
    state: CameraState = "ok"
    patience_s = PATIENCE_S

    def __init__(self, name: str, config: CameraConfig) -> None:
        self.name = name
        self.ended = False
        self._realtime = config.realtime
        self._loop = config.loop
        self._began: float | None = None  # the moment that second 0 of the recording was due
        self._waited_ms = 0.0

    def _is_due(self, time_s: float, step_s: float, timeout_s: float) -> bool:
        """Wait, at most ``timeout_s``, until the frame of second ``time_s`` is due.

        Whoever is late catches up no more than ``step_s``.
        """
        if not self._realtime:
            return True
        now = time.monotonic()
        if self._began is None:
            self._began = now - time_s
        self._began = max(self._began, now - time_s - step_s)
        left_s = self._began + time_s - now
        if left_s > 0:
            time.sleep(min(left_s, timeout_s))
            self._waited_ms += (time.monotonic() - now) * 1e3
        return left_s <= timeout_s

    def refused(self, frame: Frame, error: EdgeLabelError) -> None:
        """The frames of a video are all alike: what the pipeline cannot take of one it can take of none."""
        raise error

    def _take_wait_ms(self) -> float:
        waited_ms, self._waited_ms = self._waited_ms, 0.0
        return waited_ms


class VideoFile(_Replay):
    """A video file. Raises DataError when it cannot be opened, and at the first ``read`` when no frame decodes.

    A frame's time is the container's, because phones and browsers record frames at no even rate. Where a file has no
    times, or goes back in time, the rate of its frames counts, and without a believable rate ``config.fps``.
    """

    def __init__(self, path: Path, config: CameraConfig) -> None:
        check_file(path)
        super().__init__(str(path), config)
        self._path = path
        self._capture = _open_video(path)
        self._rate = self._capture.get(cv2.CAP_PROP_FPS)
        self._step_s = 1 / (self._rate if 0 < self._rate <= MOST_FPS else config.fps)
        self._offset_s = 0.0  # from the container's times to ours
        self._time_s = 0.0
        self._frames = 0
        self._grabbed = False
        self._grab_ms = 0.0

    def read(self, timeout_s: float) -> Frame | None:
        if not self._grabbed and not self._grab():
            self._end()
            return None
        if not self._is_due(self._time_s, self._step_s, timeout_s):
            return None
        self._grabbed = False
        start = time.monotonic()
        ok, data = self._capture.retrieve()
        if not ok:
            raise DataError(
                f"{self._path}: frame {self._frames} of the video cannot be decoded",
                "is it damaged?",
            )
        now = time.monotonic()
        decode_ms = self._grab_ms + (now - start) * 1e3
        return Frame(
            data, "bgr", now, time.time(), self._take_wait_ms(), decode_ms, video_s=self._time_s
        )

    def _grab(self) -> bool:
        """Decode the next frame, or the first again at the end of a loop; False when there is no more."""
        start = time.monotonic()
        ok = self._capture.grab()
        if not ok and self._frames and self._loop:
            ok = self._grab_first()
        if ok:
            self._time_s = self._time()
            self._frames += 1
            self._grabbed = True
            self._grab_ms = (time.monotonic() - start) * 1e3
        return ok

    def _time(self) -> float:
        """The time of the frame just grabbed, in seconds, always later than that of the one before."""
        told_s = self._offset_s + self._capture.get(cv2.CAP_PROP_POS_MSEC) / 1e3
        if not self._frames:
            self._offset_s -= told_s  # a recording begins at 0, whatever its camera's clock said
            return 0.0
        if 0 < told_s - self._time_s <= LONGEST_STEP_S:
            return told_s
        time_s = self._time_s + self._step_s
        self._offset_s += time_s - told_s
        return time_s

    def _grab_first(self) -> bool:
        """Go back to the start. OpenCV says that it did, also of a saved stream without an index: open that again."""
        self._capture.set(cv2.CAP_PROP_POS_FRAMES, 0)
        if self._capture.grab():
            return True
        self._capture.release()
        self._capture = _open_video(self._path)
        return self._capture.grab()

    def _end(self) -> None:
        if not self._frames:
            raise DataError(f"{self._path}: no frame of the video can be decoded", "is it damaged?")
        self.ended = True
        length_s = (
            self._capture.get(cv2.CAP_PROP_FRAME_COUNT) / self._rate if self._rate > 0 else 0.0
        )
        there_s = self._time_s + self._step_s
        if not self._loop and there_s < 0.9 * length_s:
            promised = length_s / self._step_s
            log.warning(
                "%s: ended after %d of about %d frames; is it cut off?",
                self._path,
                self._frames,
                promised,
            )

    def close(self) -> None:
        self._capture.release()


def _open_video(path: Path) -> cv2.VideoCapture:
    """Raises DataError for what FFmpeg does not take for a video."""
    capture = cv2.VideoCapture(ffmpeg_name(path), cv2.CAP_FFMPEG)
    if not capture.isOpened():
        capture.release()
        raise DataError(f"{path}: not a video that can be read", "ffprobe tells what it is")
    return capture


def ffmpeg_name(path: Path) -> str:
    """The path as FFmpeg takes it for a file: else what stands before a colon would name a protocol.

    Raises DataError for a name that is not UTF-8.
    """
    return f"file:{utf8_name(path)}"


class PictureFolder(_Replay):
    """The pictures of a folder and below, sorted by name. Broken ones are logged, counted and passed over."""

    def __init__(self, root: Path, config: CameraConfig, paths: list[Path] | None = None) -> None:
        super().__init__(str(root), config)
        self._root = root
        self._paths = paths or pictures_below(root)
        self._step_s = 1 / config.fps
        self._shown = 0
        self._at = 0
        self.broken = 0
        self._named: set[int] = set()
        self._refused: EdgeLabelError | None = None

    @classmethod
    def of_one(cls, path: Path, config: CameraConfig) -> PictureFolder:
        """A single picture as a source."""
        return cls(path.parent, config, [path])

    def read(self, timeout_s: float) -> Frame | None:
        if not self._is_due(self._shown * self._step_s, self._step_s, timeout_s):
            return None
        while True:
            if self._at == len(self._paths) and self._loop and self.broken < len(self._paths):
                self._at = self.broken = 0
            if self._at == len(self._paths):
                self.ended = True
                if self.broken == len(self._paths):
                    raise self._refused or DataError(
                        f"{self.name}: none of its {self.broken} pictures can be read"
                    )
                return None
            path = self._paths[self._at]
            self._at += 1
            start = time.monotonic()
            try:
                data = read_picture(path)
            except DataError as error:
                self._pass_over(error)
                continue
            now = time.monotonic()
            self._shown += 1
            file = str(path.relative_to(self._root))
            wait_ms = self._take_wait_ms()
            return Frame(
                data, encoding_of(data), now, time.time(), wait_ms, (now - start) * 1e3, file=file
            )

    def refused(self, frame: Frame, error: EdgeLabelError) -> None:
        """The pipeline cannot take this picture; the others still may be what it wants."""
        self._refused = error
        self._pass_over(type(error)(f"{self._root / str(frame.file)}: {error}"))

    def _pass_over(self, error: EdgeLabelError) -> None:
        if len(self._paths) == 1:
            raise error
        self.broken += 1
        if self._at not in self._named:  # a loop comes by again
            self._named.add(self._at)
            log.warning("%s", error)

    def close(self) -> None:
        self._at = len(self._paths)
