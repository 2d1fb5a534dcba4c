"""Where pretrained weights come from: a file, an installed package that carries one, or a hub
name."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from torch import Tensor, load

from edge_runtime.errors import DataError, NoInputError, first_line

PACKAGE = "package:"


def read_state(source: str) -> dict[str, Tensor]:
    """Tensors by name, in the order of the checkpoint.

    Args: source: a .safetensors or torch file; "package:NAME", an installed Python package with one
        .pth inside; or a hub name such as "timm/mobilenetv4_conv_small.e2400_r224_in1k".

    Raises NoInputError when there is nothing of that name, DataError when it holds no weights.
    """
    path = _find(source)
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(path)
        state = load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # unpickling rubbish may raise anything
        raise DataError(f"{path}: not a file of weights ({first_line(error)})") from error
    return state


def _find(source: str) -> Path:
    if source.startswith(PACKAGE):
        return _in_package(source.removeprefix(PACKAGE))
    path = Path(source)
    if path.is_file():
        return path
    if "/" not in source or path.suffix:
        raise NoInputError(f"{source}: no such weights", "check student.pretrained")
    try:
        from huggingface_hub import hf_hub_download

        return Path(hf_hub_download(source, "model.safetensors"))
    except Exception as error:  # offline, unknown name, no such file: the hub has a class for each
        raise NoInputError(
            f"{source}: neither a file nor on the hub ({first_line(error)})"
        ) from error


def _in_package(name: str) -> Path:
    found = importlib.util.find_spec(name) if name.isidentifier() else None
    if found is None or not found.submodule_search_locations:
        raise NoInputError(f"{PACKAGE}{name}: not installed", f"pip install {name}")
    files = sorted(Path(found.submodule_search_locations[0]).rglob("*.pth"))
    if len(files) != 1:
        raise DataError(f"{PACKAGE}{name}: {len(files)} .pth files inside, should be one")
    return files[0]
