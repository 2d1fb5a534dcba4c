"""edge-label: zero-shot text labels for every camera frame, on a small ARM computer.

    import edge_runtime as edge

    labeller = edge.load(labels="road")
    labeller("photo.jpg").labels
    labeller.embed("photo.jpg")

    with edge.open_camera("/dev/video0") as camera:
        for frame in camera:
            print(labeller(frame).labels)

This package is what is installed on the camera. It imports numpy, onnxruntime, cv2 and yaml, each only where it is
needed, so importing it costs nothing. The model factory lives in ``tools/`` and is never imported here.
"""

from __future__ import annotations

from os import PathLike, fspath
from typing import TYPE_CHECKING, Any

from edge_runtime.errors import (
    BundleError,
    ConfigError,
    DataError,
    DeviceError,
    EdgeLabelError,
    NoInputError,
)
from edge_runtime.version import __version__

if TYPE_CHECKING:
    from edge_runtime.labeller import Camera, Labeller
    from edge_runtime.records import Frame, LabelRecord, LabelScore, WantedModality

__all__ = [
    "BundleError",
    "Camera",
    "ConfigError",
    "DataError",
    "DeviceError",
    "EdgeLabelError",
    "Frame",
    "LabelRecord",
    "LabelScore",
    "Labeller",
    "NoInputError",
    "__version__",
    "load",
    "open_camera",
]

_LIVES_IN = {
    "Camera": "edge_runtime.labeller",
    "Labeller": "edge_runtime.labeller",
    "Frame": "edge_runtime.records",
    "LabelRecord": "edge_runtime.records",
    "LabelScore": "edge_runtime.records",
}


def load(
    bundle: str | PathLike[str] | None = None,
    *,
    labels: str | PathLike[str] = "everyday",
    modality: WantedModality = "auto",
    threads: int | None = None,
) -> Labeller:
    """A `Labeller` for pictures.

    Args:
        bundle: Directory of a model bundle. Default: the one that ``edge-label`` would use.
        labels: A label set of the bundle (``everyday``, ``indoor``, ``road``) or a YAML file.
        modality: What the pictures are: ``rgb``, ``ir``, ``depth``, or ``auto``.
        threads: Threads of the encoder. Default: the cores, up to four.

    Raises ConfigError or BundleError when the model or the label set is wrong, NoInputError when one is missing.
    """
    from edge_runtime.config import ModelConfig
    from edge_runtime.engine import load_engine
    from edge_runtime.labeller import Labeller

    try:
        config = ModelConfig(
            bundle=None if bundle is None else fspath(bundle),
            labels=fspath(labels),
            modality=modality,
            threads=threads,
        )
    except ValueError as error:
        raise ConfigError(f"load: {error}") from error

    return Labeller(load_engine(config))


def open_camera(source: str | int | PathLike[str] = "/dev/video0", **options: Any) -> Camera:
    """A `Camera`: an iterator of frames, which `Labeller` takes as they are.

    Args:
        source: What ``--camera`` takes: a device or its number, a video, a picture, a folder, a URL, or ``demo``.
        options: Fields of the configuration's section ``camera``, such as ``width``, ``height``, ``fps``, ``loop``.

    Raises ConfigError for an option that does not exist, NoInputError or DataError for files. A live camera that is
    absent raises nothing: it is waited for, or, with ``exit_on_error=True``, raises DeviceError when it is read.
    """
    from edge_runtime.config import CameraConfig
    from edge_runtime.labeller import Camera

    try:
        config = CameraConfig(source=str(source), **options)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"open_camera: {error}") from error

    return Camera(config)


def __getattr__(name: str) -> Any:
    """Names of `__all__` that would load NumPy, imported when somebody asks for them."""
    if name in _LIVES_IN:
        from importlib import import_module

        return getattr(import_module(_LIVES_IN[name]), name)

    raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
