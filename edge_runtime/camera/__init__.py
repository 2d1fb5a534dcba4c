"""Where frames come from. ``open_source`` is the one door; every source answers to ``Source``.

Each kind of source is imported only when it is used: a daemon with a USB camera does not load what
reads videos.
"""

from __future__ import annotations

import os
from pathlib import Path

from edge_runtime.camera.source import Source
from edge_runtime.config import CameraConfig
from edge_runtime.errors import NoInputError
from edge_runtime.secrecy import shown

__all__ = ["Source", "is_program", "open_source"]

_TRY = "try /dev/video0, libcamera, a video file, or demo"


def open_source(config: CameraConfig) -> Source:
    """A source for ``config.source``, of whatever kind.

    A device or its index, a video file, a picture, a folder, a URL, ``exec:`` and a command,
    ``libcamera``, ``-`` or ``demo``.

    Raises NoInputError or DataError for files, ConfigError for a command that is none, and
    UsageError for a standard input that is a terminal. A live source that is not there yet is no
    error here: it reports its state and keeps trying.
    """
    name = config.source
    if not name:
        raise NoInputError("--camera is empty", _TRY)
    if name == "demo":
        return _open_demo(config)
    if name == "-":
        return _open_standard_input(config)
    if is_program(name):
        return _open_program(config)
    if name.isdecimal():
        return _open_device(f"/dev/video{name}", config)
    if name.startswith("/dev/"):
        return _open_device(name, config)
    if "://" in name and not os.path.lexists(name):  # a file may have such a name, too
        return _open_stream(config)
    return _open_file(Path(name), config)


def is_program(source: str) -> bool:
    """Whether another program reads the camera and writes its pictures for us."""
    return source == "libcamera" or source.startswith("exec:")


def _open_demo(config: CameraConfig) -> Source:
    from edge_runtime.camera.demo import DemoCamera
    from edge_runtime.camera.live import LiveSource

    return LiveSource("demo", lambda: DemoCamera(config), config)


def _open_device(device: str, config: CameraConfig) -> Source:
    from edge_runtime.camera.live import LiveSource
    from edge_runtime.camera.v4l2 import V4l2Camera, V4l2Path

    path = V4l2Path(device)
    return LiveSource(config.source, lambda: V4l2Camera(path, config), config, path.presence)


def _open_program(config: CameraConfig) -> Source:
    from edge_runtime.camera.live import LiveSource
    from edge_runtime.camera.program import Program

    program = Program(config)
    return LiveSource(program.name, program.open, config, program.presence)


def _open_standard_input(config: CameraConfig) -> Source:
    from edge_runtime.camera.live import LiveSource
    from edge_runtime.camera.pipe import StandardInput

    # The same object at every opening: it may hold the first half of a picture.
    standard_input = StandardInput(config)
    return LiveSource("-", lambda: standard_input, config)


def _open_stream(config: CameraConfig) -> Source:
    from edge_runtime.camera.live import LiveSource
    from edge_runtime.camera.stream import LONGEST_BACKOFF_S, Stream

    stream = Stream(config.source, config)
    return LiveSource(stream.name, stream.open, config, longest_backoff_s=LONGEST_BACKOFF_S)


def _open_file(path: Path, config: CameraConfig) -> Source:
    from edge_runtime.camera.pictures import check_format, is_picture
    from edge_runtime.camera.replay import PictureFolder, VideoFile

    if path.is_dir():
        return PictureFolder(path, config)
    if not os.path.lexists(path):
        raise NoInputError(f"{shown(str(path))}: no such file, folder or camera", _TRY)

    check_format(path)
    is_animation = path.suffix.lower() == ".gif"  # in a folder it counts as a picture
    if is_picture(path) and not is_animation:
        return PictureFolder.of_one(path, config)
    return VideoFile(path, config)
