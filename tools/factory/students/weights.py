"""Where pretrained weights come from: a file, an installed package, or a name on the hub."""

from __future__ import annotations

import importlib.util
import pickle
from pathlib import Path

from torch import Tensor, load

from edge_runtime.errors import DataError, NoInputError, first_line

PACKAGE = "package:"
FILE_SUFFIXES = (".safetensors", ".pth", ".pt", ".bin", ".npz")


def read_state(source: str) -> dict[str, Tensor]:
    """Tensors by name, in the order of the checkpoint.

    Args:
        source: a .safetensors or torch file; "package:NAME", an installed Python package with one
            .pth inside; or a hub name such as "timm/mobilenetv4_conv_small.e2400_r224_in1k".

    Raises NoInputError when there is nothing of that name, DataError when it holds no weights.
    """
    return read_file(_find(source))


def read_file(path: Path) -> dict[str, Tensor]:
    """What a .safetensors or torch file holds. Nothing in it is executed. Raises DataError."""
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(path)
        state: dict[str, Tensor] = load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        # Damaged data makes the unpickler raise exceptions of any kind.
        raise DataError(f"{path}: not a file of weights ({reason(error)})") from error
    return state


def reason(error: Exception) -> str:
    """Why weights cannot be loaded, in one line. torch's own words advise to run what they hold."""
    if isinstance(error, pickle.UnpicklingError):
        return "something in it is no tensor, and code from a file of weights is never run"
    return first_line(error)


def _find(source: str) -> Path:
    if source.startswith(PACKAGE):
        return _in_package(source.removeprefix(PACKAGE))
    path = Path(source)
    if path.is_file():
        return path
    # A hub name is OWNER/MODEL, and MODEL may hold a dot. What ends like a file was meant as one.
    if "/" not in source or path.suffix in FILE_SUFFIXES:
        raise NoInputError(f"{source}: no such weights", "check student.pretrained")
    try:
        from huggingface_hub import hf_hub_download

        return Path(hf_hub_download(source, "model.safetensors"))
    except Exception as error:
        # Offline, unknown name, no such file: the hub's library has a class for each.
        raise NoInputError(
            f"{source}: neither a file nor on the hub ({first_line(error)})"
        ) from error


def _in_package(name: str) -> Path:
    """The one .pth file of an installed package, which is not imported: that would run its code."""
    package = importlib.util.find_spec(name) if name.isidentifier() else None
    if package is None or not package.submodule_search_locations:
        raise NoInputError(f"{PACKAGE}{name}: not installed", f"pip install {name}")
    files = sorted(Path(package.submodule_search_locations[0]).rglob("*.pth"))
    if len(files) != 1:
        raise DataError(f"{PACKAGE}{name}: holds {len(files)} .pth files, should hold one")
    return files[0]
