"""The public classes: `Labeller` labels and embeds pictures, `Camera` gives frames.

`edge_runtime.load` and `edge_runtime.open_camera` make them. What must not live here: sinks,
signals and reload, which belong to the daemon.
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
from edge_runtime.errors import DataError, NoInputError
from edge_runtime.pipeline import Pipeline
from edge_runtime.records import CameraState, Frame, LabelledFrame, LabelRecord

# How long `Camera` waits for a frame at a time. Ctrl-C is answered between two waits.
_WAIT_S = 0.5


@runtime_checkable
class PilImage(Protocol):
    """What we use of a PIL image. Pillow itself is never imported."""

    mode: str

    def convert(self, mode: str) -> Any:
        """The image in another mode."""


Picture: TypeAlias = "str | PathLike[str] | PilImage | NDArray[Any] | Frame"
Pictures: TypeAlias = "list[Any] | tuple[Any, ...]"


class Labeller:
    """Labels pictures with one model bundle and one label set.

    A picture is a path, a PIL image, a `Frame` or an array. A batch is a list or tuple of
    pictures. Arrays may be:

    - uint8 (H, W, 3): RGB;
    - uint8 (H, W): grey;
    - uint16 (H, W): infrared levels, or depth in millimetres;
    - float32 or float64 (H, W): depth in metres.

    Not thread-safe: use one labeller in each thread.
    """

    def __init__(self, engine: Engine) -> None:
        self._pipeline = Pipeline(engine, camera="python")

    @property
    def labels(self) -> tuple[str, ...]:
        """Names of the labels that a record can hold."""
        return self._pipeline.engine.score.labels.reported

    @overload
    def __call__(self, picture: Picture) -> LabelRecord: ...

    @overload
    def __call__(self, picture: Pictures) -> list[LabelRecord]: ...

    def __call__(self, picture: Picture | Pictures) -> LabelRecord | list[LabelRecord]:
        """The record of a picture, or a list of records for a batch.

        ``record.labels`` holds a `LabelScore` for each label, highest score first.

        Raises NoInputError for a file that does not exist, DataError for a picture that cannot be
        read, ConfigError for one of a modality that the bundle was not trained for.
        """
        if _is_batch(picture):
            return [self.process(_frame(one)).record for one in picture]
        return self.process(_frame(picture)).record

    def embed(self, picture: Picture | Pictures) -> NDArray[np.float32]:
        """The image embedding, float32 (dim,) of unit norm; for a batch float32 (N, dim).

        Raises the errors of a call, and DataError for a frame that does not decode.
        """
        if not _is_batch(picture):
            return self._embedding(picture)

        dim = self._pipeline.engine.manifest.dim
        embeddings = np.empty((len(picture), dim), np.float32)
        for i, one in enumerate(picture):
            embeddings[i] = self._embedding(one)
        return embeddings

    def process(self, frame: Frame) -> LabelledFrame:
        """Record and embedding of one frame.

        A frame that does not decode gives a record of state ``invalid`` and no embedding.
        """
        return self._pipeline.process(frame)

    def _embedding(self, picture: Any) -> NDArray[np.float32]:
        labelled = self.process(_frame(picture))
        if labelled.embedding is None:
            name = labelled.record.file or "frame"
            raise DataError(f"{name}: does not decode", "check the file")
        return labelled.embedding


class Camera:
    """Frames of a camera, video, folder or stream: ``for frame in camera``.

    A live camera gives its newest frame and drops older ones. It may be unplugged and plugged in
    again; the loop waits. Use it in a ``with`` block, or call `close`.
    """

    def __init__(self, config: CameraConfig) -> None:
        self._source = open_source(config)

    @property
    def state(self) -> CameraState:
        """One of the states of `CameraState`, such as ``ok``, ``no_device`` or ``busy``."""
        return self._source.state

    def __iter__(self) -> Iterator[Frame]:
        """Every frame until the source ends.

        Raises DataError for a file that cannot be read, and DeviceError for an absent camera that
        was opened with ``exit_on_error=True``.
        """
        while True:
            frame = self._source.read(_WAIT_S)
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
    """A picture of any kind as a Frame. Colour is BGR there, which is OpenCV's order."""
    if isinstance(picture, Frame):
        return picture

    if isinstance(picture, str | PathLike):
        path = Path(fspath(picture))
        return _still(_read(path), str(path))

    if isinstance(picture, np.ndarray):
        return _still(_from_rgb(picture), "array")

    if isinstance(picture, PilImage):
        # 8, 16 and 32 bits of one channel; all else, a palette or transparency too, becomes RGB.
        grey = picture.mode in ("L", "I;16", "F")
        image = picture if grey else picture.convert("RGB")
        return _still(_from_rgb(np.asarray(image)), "image")

    kind = type(picture).__name__
    raise DataError(
        f"{kind} is not a picture", "give a path, a PIL image, a uint8 array or a Frame"
    )


def _read(path: Path) -> NDArray[Any]:
    """The pixels of a file. Raises NoInputError where it does not exist, else DataError."""
    try:
        return np.asarray(read_picture(path))
    except DataError as error:
        # In a folder, a file that somebody has just deleted is skipped like any other bad picture.
        # A user who names the file must learn that it does not exist.
        if isinstance(error.__cause__, FileNotFoundError):
            raise NoInputError(f"{path}: no such file", "check the path") from error
        raise


def _from_rgb(pixels: NDArray[Any]) -> NDArray[Any]:
    """RGB as BGR, one channel as it is. Raises DataError for any other array."""
    is_colour = pixels.ndim == 3 and pixels.shape[2] == 3 and pixels.size > 0
    if is_colour and pixels.dtype == np.uint8:
        return np.ascontiguousarray(pixels[:, :, ::-1])
    is_one_channel = pixels.ndim == 2 and pixels.size > 0
    if is_one_channel and pixels.dtype in (np.uint8, np.uint16, np.float32, np.float64):
        return np.ascontiguousarray(pixels)

    raise DataError(
        f"array of {pixels.dtype} {pixels.shape} is not a picture",
        "give uint8 RGB (height, width, 3), or one channel (height, width)",
    )


def _still(pixels: NDArray[Any], name: str) -> Frame:
    """A picture that stands alone: consensus over time ignores a frame that names a file."""
    return Frame(pixels, encoding_of(pixels), time.monotonic(), time.time(), file=name)
