"""Videos and pictures from disk: every frame, in order, at full speed or in real time."""

from __future__ import annotations

import logging
import time
from pathlib import Path

from edge_runtime.camera.decode import encoding_of
from edge_runtime.camera.folder import pictures_below
from edge_runtime.camera.pictures import check_file, read_picture, utf8_name
from edge_runtime.config import CameraConfig
from edge_runtime.errors import DataError, EdgeLabelError
from edge_runtime.records import CameraState, Frame
from edge_runtime.system.opencv import cv2

log = logging.getLogger("edge_label.camera")

# A higher rate is not the rate of the frames: browsers' WebM says 1000 and means milliseconds.
MOST_FPS = 240.0
# A longer time between two frames is a break in the recording, and nobody waits for it.
LONGEST_STEP_S = 60.0
PATIENCE_S = 60.0  # for a frame that is not due yet


class _Replay:
    """What videos and folders share: pacing on the monotonic clock, and no state but ok."""

    live = False
    state: CameraState = "ok"
    patience_s = PATIENCE_S

    def __init__(self, name: str, config: CameraConfig) -> None:
        self.name = name
        self.ended = False
        self._realtime = config.realtime
        self._loop = config.loop
        self._turn = config.turn
        self._began: float | None = None  # the moment that second 0 of the recording was due
        self._waited_ms = 0.0

    def _is_due(self, time_s: float, step_s: float, timeout_s: float) -> bool:
        """Wait, at most ``timeout_s``, until the frame of second ``time_s`` is due.

        A reader that is late catches up no more than ``step_s``: the recording then goes on later.
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
        """Raise ``error``: all frames of a video are alike, so every one would be refused."""
        raise error

    def _take_wait_ms(self) -> float:
        waited_ms = self._waited_ms
        self._waited_ms = 0.0
        return waited_ms


class VideoFile(_Replay):
    """A video file.

    A frame's time is the container's, because phones and browsers record at no even rate. Where a
    file has no times, or goes back in time, the rate of its frames counts, and without a plausible
    rate ``config.fps``. Raises DataError when it cannot be opened, and at the first ``read`` when
    no frame decodes.
    """

    def __init__(self, path: Path, config: CameraConfig) -> None:
        check_file(path)
        super().__init__(str(path), config)
        self._path = path
        self._capture = _open_video(path)
        self._rate = self._capture.get(cv2.CAP_PROP_FPS)
        has_rate = 0 < self._rate <= MOST_FPS
        self._step_s = 1 / (self._rate if has_rate else config.fps)
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
        return Frame(
            data,
            "bgr",
            now,
            time.time(),
            wait_ms=self._take_wait_ms(),
            decode_ms=self._grab_ms + (now - start) * 1e3,
            turn=self._turn,
            video_s=self._time_s,
        )

    def _grab(self) -> bool:
        """Decode the next frame, or the first again in a loop; False when there is none."""
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
        """The time of the frame just grabbed, in seconds; always later than that before it."""
        container_s = self._offset_s + self._capture.get(cv2.CAP_PROP_POS_MSEC) / 1e3
        if not self._frames:
            # A recording begins at 0, whatever its camera's clock was.
            self._offset_s -= container_s
            return 0.0
        if 0 < container_s - self._time_s <= LONGEST_STEP_S:
            return container_s

        # No time, one that goes back, or a break: take the next step, and go on from there.
        time_s = self._time_s + self._step_s
        self._offset_s += time_s - container_s
        return time_s

    def _grab_first(self) -> bool:
        """Go back to the start and grab the first frame; False where even that does not decode.

        OpenCV claims success for a saved stream without an index, too. Such a file is opened again.
        """
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
        if self._loop or self._rate <= 0:
            return

        # The container's number of frames is a guess where it has no index, hence the tenth.
        promised_s = self._capture.get(cv2.CAP_PROP_FRAME_COUNT) / self._rate
        if self._time_s + self._step_s < 0.9 * promised_s:
            log.warning(
                "%s: ended after %d of about %d frames; is it cut off?",
                self._path,
                self._frames,
                promised_s / self._step_s,
            )

    def close(self) -> None:
        self._capture.release()


def _open_video(path: Path) -> cv2.VideoCapture:
    """Raises DataError for a file that FFmpeg does not take for a video."""
    capture = cv2.VideoCapture(ffmpeg_name(path), cv2.CAP_FFMPEG)
    if not capture.isOpened():
        capture.release()
        raise DataError(
            f"{path}: not a video that can be read", "ffprobe shows what is wrong with it"
        )
    # A phone writes the picture as its sensor sees it, and beside it how to turn it.
    capture.set(cv2.CAP_PROP_ORIENTATION_AUTO, 1)
    return capture


def ffmpeg_name(path: Path) -> str:
    """The path as FFmpeg takes it for a file, whatever its name is.

    Without the prefix, FFmpeg takes what stands before a colon for a protocol. Raises DataError for
    a name that is not UTF-8.
    """
    return f"file:{utf8_name(path)}"


class PictureFolder(_Replay):
    """The pictures of a folder and below, sorted by name.

    Broken ones are logged, counted in ``broken`` and skipped. Raises DataError when there is no
    picture, and in ``read`` when none of them can be read.
    """

    def __init__(self, root: Path, config: CameraConfig, paths: list[Path] | None = None) -> None:
        super().__init__(str(root), config)
        self.broken = 0
        self._root = root
        self._paths = paths or pictures_below(root)
        self._step_s = 1 / config.fps
        self._delivered = 0
        self._next = 0  # index in ``_paths``
        self._logged: set[int] = set()  # broken ones, so that a loop names each only once
        self._refused: EdgeLabelError | None = None

    @classmethod
    def of_one(cls, path: Path, config: CameraConfig) -> PictureFolder:
        """A single picture as a source."""
        return cls(path.parent, config, [path])

    def read(self, timeout_s: float) -> Frame | None:
        if not self._is_due(self._delivered * self._step_s, self._step_s, timeout_s):
            return None
        while self._has_next():
            path = self._paths[self._next]
            self._next += 1
            start = time.monotonic()
            try:
                data = read_picture(path)
            except DataError as error:
                self._skip(error)
                continue

            now = time.monotonic()
            self._delivered += 1
            return Frame(
                data,
                encoding_of(data),
                now,
                time.time(),
                wait_ms=self._take_wait_ms(),
                decode_ms=(now - start) * 1e3,
                turn=self._turn,
                file=str(path.relative_to(self._root)),
            )
        return None

    def _has_next(self) -> bool:
        """Whether there is one more picture. Raises DataError at the end when all were broken."""
        count = len(self._paths)
        if self._next == count and self._loop and self.broken < count:
            self._next = 0
            self.broken = 0
        if self._next < count:
            return True

        self.ended = True
        if self.broken == count:
            raise self._refused or DataError(
                f"{self.name}: none of its {self.broken} pictures can be read"
            )
        return False

    def refused(self, frame: Frame, error: EdgeLabelError) -> None:
        """Skip this picture: the next one may be of the right kind."""
        self._refused = error
        self._skip(error.within(str(self._root / str(frame.file))))

    def _skip(self, error: EdgeLabelError) -> None:
        if len(self._paths) == 1:
            raise error
        self.broken += 1
        if self._next not in self._logged:
            self._logged.add(self._next)
            log.warning("%s", error)

    def close(self) -> None:
        self._next = len(self._paths)
