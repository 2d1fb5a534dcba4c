"""Where frames come from. ``open_source`` is the one door; every kind of source answers to ``Source``."""

from __future__ import annotations

import os
from pathlib import Path

from edge_runtime.camera.source import Source
from edge_runtime.config import CameraConfig
from edge_runtime.errors import NoInputError
from edge_runtime.secrecy import shown

__all__ = ["Source", "open_source"]


def open_source(config: CameraConfig) -> Source:
    """A source for ``config.source``: device, index, video file, picture, folder, URL or ``demo``.

    Raises NoInputError or DataError for files; a live source that is not there yet is not an error here, it
    reports its state and keeps trying.
    """
    wanted = config.source
    if not wanted:
        raise NoInputError("--camera is empty", "try /dev/video0, a video file, or demo")
    if wanted == "demo":
        from edge_runtime.camera.demo import DemoCamera
        from edge_runtime.camera.live import LiveSource

        return LiveSource("demo", lambda: DemoCamera(config), config)
    if wanted.isdecimal() or wanted.startswith("/dev/"):
        from edge_runtime.camera.live import LiveSource
        from edge_runtime.camera.v4l2 import V4l2Camera, V4l2Path

        path = V4l2Path(f"/dev/video{wanted}" if wanted.isdecimal() else wanted)
        return LiveSource(wanted, lambda: V4l2Camera(path, config), config, path.presence)
    if "://" in wanted and not os.path.lexists(wanted):
        from edge_runtime.camera.live import LiveSource
        from edge_runtime.camera.stream import LONGEST_BACKOFF_S, Stream

        stream = Stream(wanted, config)
        return LiveSource(stream.name, stream.open, config, longest_backoff_s=LONGEST_BACKOFF_S)
    return _open_file(Path(wanted), config)


def _open_file(path: Path, config: CameraConfig) -> Source:
    from edge_runtime.camera.pictures import check_format, is_picture
    from edge_runtime.camera.replay import PictureFolder, VideoFile

    if path.is_dir():
        return PictureFolder(path, config)
    if not os.path.lexists(path):
        name = shown(str(path))
        raise NoInputError(
            f"{name}: no such file, folder or camera", "try /dev/video0, a video file, or demo"
        )
    check_format(path)
    moves = path.suffix.lower() == ".gif"  # alone it is a film, among pictures a picture
    return (
        PictureFolder.of_one(path, config)
        if is_picture(path) and not moves
        else VideoFile(path, config)
    )
