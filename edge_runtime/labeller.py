"""The door for Python: label pictures, embed them, take frames from a camera.

`edge_runtime.load` and `edge_runtime.open_camera` make what lives here.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from os import PathLike, fspath
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self, TypeAlias, TypeGuard, overload, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from edge_runtime.camera import open_source
from edge_runtime.camera.decode import encoding_of
from edge_runtime.camera.pictures import read_picture
from edge_runtime.config import CameraConfig
from edge_runtime.engine import Engine
from edge_runtime.errors import DataError
from edge_runtime.pipeline import Pipeline
from edge_runtime.records import Frame, LabelledFrame, LabelRecord

# How long `Camera` waits at a time; between two waits Ctrl-C is answered.
WAIT_S = 0.5


@runtime_checkable
class PilImage(Protocol):
    """What is used of a PIL image. Pillow itself is never imported."""

    mode: str

    def convert(self, mode: str) -> Any:
        """The image in another mode."""


Picture: TypeAlias = "str | PathLike[str] | PilImage | NDArray[Any] | Frame"
Pictures: TypeAlias = "list[Any] | tuple[Any, ...]"


class Labeller:
    """Labels pictures with one model bundle and one label set. Not thread-safe: one labeller, one thread.

    A picture is a path, a PIL image, a `Frame`, or an array: uint8 RGB (H, W, 3), uint8 grey (H, W), or one channel
    of 16 bits or floats, (H, W), where the bundle knows infrared or depth. A batch is a list of pictures.
    """

    def __init__(self, engine: Engine) -> None:
        self._pipeline = Pipeline(engine, camera="python")

    @property
    def labels(self) -> tuple[str, ...]:
        """Names of the labels that an answer can hold."""
        return self._pipeline.engine.score.labels.reported

    @overload
    def __call__(self, picture: Picture) -> LabelRecord: ...

    @overload
    def __call__(self, picture: Pictures) -> list[LabelRecord]: ...

    def __call__(self, picture: Picture | Pictures) -> LabelRecord | list[LabelRecord]:
        """The record of a picture, or those of a batch; ``record.labels`` holds the scores, highest first.

        Raises NoInputError or DataError for a picture that cannot be read.
        """
        if _is_batch(picture):
            return [self.process(_frame(one)).record for one in picture]
        return self.process(_frame(picture)).record

    def embed(self, picture: Picture | Pictures) -> NDArray[np.float32]:
        """The image embedding, float32 (dim,) of unit norm; of a batch float32 (N, dim).

        Raises NoInputError or DataError for a picture that cannot be read.
        """
        if _is_batch(picture):
            rows = [self._embedding(one) for one in picture]
            return (
                np.stack(rows)
                if rows
                else np.empty((0, self._pipeline.engine.manifest.dim), np.float32)
            )
        return self._embedding(picture)

    def process(self, frame: Frame) -> LabelledFrame:
        """Record and embedding of one frame. A frame that does not decode gives a record of state ``invalid``."""
        return self._pipeline.process(frame)

    def _embedding(self, picture: Any) -> NDArray[np.float32]:
        labelled = self.process(_frame(picture))

        if labelled.embedding is None:
            raise DataError(
                f"{labelled.record.file or 'picture'}: does not decode", "check the file"
            )
        return labelled.embedding


class Camera:
    """Frames of a camera, video, folder or stream, one after the other: ``for frame in camera``.

    A live camera gives its newest frame and drops older ones; it may be unplugged and come back, and the loop waits.
    Use it in a ``with`` block, or call `close`.
    """

    def __init__(self, config: CameraConfig) -> None:
        self._source = open_source(config)

    @property
    def state(self) -> str:
        """What the camera is doing: ``ok``, ``no_device``, ``busy``, ..."""
        return self._source.state

    def __iter__(self) -> Iterator[Frame]:
        """Every frame until the source ends. Raises DataError for a file that cannot be read."""
        while True:
            frame = self._source.read(WAIT_S)

            if frame is not None:
                yield frame
            elif self._source.ended:
                return

    def close(self) -> None:
        """Release the device. May be called twice."""
        self._source.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


def _is_batch(picture: Any) -> TypeGuard[Pictures]:
    return isinstance(picture, list | tuple)


def _frame(picture: Any) -> Frame:
    """A picture in any of its forms as a Frame, whose colour channels stand in OpenCV's order, BGR."""
    if isinstance(picture, Frame):
        return picture

    if isinstance(picture, str | PathLike):
        path = Path(fspath(picture))
        pixels = read_picture(path)
        return _still(pixels, str(path))

    if isinstance(picture, np.ndarray):
        return _still(_from_rgb(picture), "array")

    if isinstance(picture, PilImage):
        grey = picture.mode in ("L", "I;16", "F")
        return _still(_from_rgb(np.asarray(picture if grey else picture.convert("RGB"))), "image")

    kind = type(picture).__name__
    raise DataError(
        f"{kind} is not a picture", "give a path, a PIL image, a uint8 array or a Frame"
    )


def _from_rgb(pixels: NDArray[Any]) -> NDArray[Any]:
    if pixels.ndim == 3 and pixels.shape[2] == 3 and pixels.dtype == np.uint8:
        return np.ascontiguousarray(pixels[:, :, ::-1])
    if (
        pixels.ndim == 2
        and pixels.dtype in (np.uint8, np.uint16, np.float32, np.float64)
        and pixels.size
    ):
        return np.ascontiguousarray(pixels)

    raise DataError(
        f"array of {pixels.dtype} {pixels.shape} is not a picture",
        "give uint8 RGB (height, width, 3), or one channel (height, width)",
    )


def _still(pixels: NDArray[Any], name: str) -> Frame:
    """A picture that stands alone: consensus over time does not touch a frame with a file."""
    return Frame(pixels, encoding_of(pixels), time.monotonic(), time.time(), file=name)
