"""edge-label: zero-shot text labels for every camera frame, on a small ARM computer.

    import edge_runtime as edge

    labeller = edge.load(labels="road")
    labeller("photo.jpg").labels
    labeller.embed("photo.jpg")

    with edge.open_camera("/dev/video0") as camera:
        for frame in camera:
            print(labeller(frame).labels)

docs/python.md explains it. A library is imported where it is first needed, so importing this
package costs nothing. The model factory lives in ``tools/`` and is never imported here.
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

# Modules that import NumPy, so each name is imported at its first use.
_HOME = {
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
    """Load a model and a label set; returns a `Labeller` for pictures.

    Args:
        bundle: Directory of a model bundle. Default: the one that ``edge-label`` would use.
        labels: A label set of the bundle (``everyday``, ``indoor``, ``road``) or a YAML file.
        modality: What the pictures are: ``rgb``, ``ir``, ``depth`` or ``auto``.
        threads: Threads of the encoder, 1 to 64. Default: the cores, up to four.

    Raises:
        NoInputError: The bundle or the label set does not exist.
        BundleError: The bundle is damaged, or not for this version.
        ConfigError: The label set or an argument is wrong.
    """
    from edge_runtime.config import ModelConfig
    from edge_runtime.engine import load_engine
    from edge_runtime.labeller import Labeller

    if isinstance(labels, list | tuple):
        raise ConfigError(
            "load: labels is a list", "write 'labels: [cat, dog]' into my.yaml and name that"
        )
    try:
        config = ModelConfig(
            bundle=None if bundle is None else fspath(bundle),
            labels=fspath(labels),
            modality=modality,
            threads=threads,
        )
    except (TypeError, ValueError) as error:
        raise ConfigError(f"load: {error}") from error

    return Labeller(load_engine(config))


def open_camera(source: str | int | PathLike[str] = "/dev/video0", **options: Any) -> Camera:
    """Open a camera or a file; returns a `Camera`, an iterator of frames for a `Labeller`.

    A live camera that is absent is no error: the iterator waits for it. With ``exit_on_error=True``
    it raises DeviceError instead.

    Args:
        source: A device or its number, a video, a picture, a folder, a URL, ``libcamera``,
            ``exec:`` and a command, ``-`` for standard input, or ``demo``.
        options: Fields of the configuration's section ``camera``, such as ``width``, ``height``,
            ``fps`` and ``loop``. docs/configuration.md lists them.

    Raises:
        ConfigError: An option does not exist, or its value is wrong.
        NoInputError: The file does not exist.
        DataError: The file cannot be read.
    """
    from dataclasses import fields
    from difflib import get_close_matches

    from edge_runtime.config import CameraConfig
    from edge_runtime.labeller import Camera

    known = [field.name for field in fields(CameraConfig) if field.name != "source"]
    for name in options:
        if name not in known:
            nearest = get_close_matches(name, known, n=1)
            advice = f"did you mean '{nearest[0]}'?" if nearest else f"it has {', '.join(known)}"
            raise ConfigError(f"open_camera: no option '{name}'", advice)

    try:
        config = CameraConfig(source=str(source), **options)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"open_camera: {error}") from error

    return Camera(config)


def __getattr__(name: str) -> Any:
    """Import a name of `_HOME` at its first use."""
    if name in _HOME:
        from importlib import import_module

        return getattr(import_module(_HOME[name]), name)

    raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
