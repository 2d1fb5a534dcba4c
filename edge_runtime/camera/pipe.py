"""Pictures that another program writes into a pipe: JPEGs, or raw pictures of the configured size.

What must not live here: how a program is started and ended (`program`).
"""

from __future__ import annotations

import logging
import os
import select
import time
from collections import deque
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_runtime.camera.source import EndOfSource
from edge_runtime.camera.splitter import JpegSplitter, RawSplitter, Splitter
from edge_runtime.config import CameraConfig
from edge_runtime.errors import ConfigError, DataError, UsageError
from edge_runtime.records import Frame
from edge_runtime.system.jpeg_bytes import jpeg_size

log = logging.getLogger("edge_label.camera")

_BLOCK = 1 << 16  # bytes; as much as a pipe holds
_WAIT_MS = 250  # for bytes, between two looks whether the source is closed
_MOST_SIZES = 8  # of pictures, that are logged
_STDIN = 0

WRITE_MJPEG = (
    "it must write MJPEG to its standard output; "
    "for raw pictures set camera.fourcc, width and height"
)


def new_splitter(config: CameraConfig) -> Splitter:
    """For what ``camera.fourcc`` says that the pipe carries; auto is MJPG.

    Raises ConfigError for a size that no picture of that format has.
    """
    width = config.width
    height = config.height
    match config.fourcc:
        case "YU12":
            if width % 2 or height % 2:
                raise ConfigError(
                    f"camera: a YU12 picture has even sides, not {width}x{height}",
                    "change camera.width and height",
                )
            return RawSplitter("yu12", (height * 3 // 2, width), np.uint8)
        case "YUYV":
            return RawSplitter("yuyv", (height, width, 2), np.uint8)
        case "GREY":
            return RawSplitter("grey", (height, width), np.uint8)
        case "Y16":
            return RawSplitter("y16", (height, width), np.uint16)
        case _:
            return JpegSplitter()


class PipeReader:
    """Frames from the reading end of a pipe, whose owner closes it.

    Attributes:
        pictures: How many came so far.
    """

    def __init__(
        self, name: str, fd: int, splitter: Splitter, known: set[tuple[int, int]] | None = None
    ) -> None:
        """``known`` are sizes (height, width) that were logged already."""
        self.pictures = 0
        self._name = name
        self._fd = fd
        self._splitter = splitter
        self._ready: deque[NDArray[Any]] = deque()
        self._sizes = set() if known is None else known
        self._poll = select.poll()
        self._poll.register(fd, select.POLLIN)

    @property
    def unused(self) -> int:
        """Bytes that came since the last picture."""
        return self._splitter.unused

    def grab(self) -> Frame | None:
        """The next frame; None where none came for a moment.

        Raises EOFError when the pipe's other end is closed, and DataError when what comes through
        it is no picture.
        """
        if not self._ready:
            if not self._poll.poll(_WAIT_MS):
                return None
            data = os.read(self._fd, _BLOCK)
            if not data:
                raise EOFError
            self._ready.extend(self._splitter.feed(data))
        if not self._ready:
            return None

        self.pictures += 1
        frame = Frame(self._ready.popleft(), self._splitter.encoding, time.monotonic(), time.time())
        self._note_size(frame)
        return frame

    def _note_size(self, frame: Frame) -> None:
        """Log the size of the first picture, and each other size once."""
        if frame.encoding != "mjpg":
            return
        try:
            size = jpeg_size(frame.data)
        except DataError:  # the pipeline counts it
            return
        if size in self._sizes or len(self._sizes) == _MOST_SIZES:
            return

        verb = "its pictures change to" if self._sizes else "sends JPEGs of"
        self._sizes.add(size)
        log.info("camera %s: %s %dx%d", self._name, verb, size[1], size[0])


class StandardInput:
    """The pipe that edge-label itself reads from, ``--camera -``; a Device.

    It cannot be opened again, so its end is the end of the run. Raises UsageError at a terminal,
    and ConfigError as `new_splitter` does.
    """

    def __init__(self, config: CameraConfig) -> None:
        if os.isatty(_STDIN):
            raise UsageError(
                "--camera -: standard input is a terminal",
                "pipe pictures into it: rpicam-vid -t 0 --codec mjpeg -o - | edge-label --camera -",
            )
        self._reader = PipeReader("-", _STDIN, new_splitter(config))

    def grab(self) -> Frame | None:
        """Raises DataError where no picture comes, and EndOfSource after the last one."""
        try:
            return self._reader.grab()
        except DataError as error:
            raise DataError(f"standard input: {error.what}", "pipe MJPEG into it") from error
        except EOFError as error:
            if not self._reader.pictures:
                raise DataError(
                    "standard input: ended before the first picture", "pipe MJPEG into it"
                ) from error
            log.info("camera -: the pipe has ended")
            raise EndOfSource from error

    def close(self) -> None:
        """Others may still use it."""
