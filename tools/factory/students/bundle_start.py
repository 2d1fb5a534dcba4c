"""The int8 encoder of a bundle as the start of a training, which goes on where the last one ended.

Its weights become float32 weights, and its first layers can be run as they are.

An int8 weight times the scale of its channel is a float32 weight. What int8 rounded away stays
away: on held-out pictures the shipped bundle and its float32 original differ by a cosine of 0.998.
The activations are not quantised here.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import onnx
import onnx.shape_inference
import onnx.utils
import torch
from numpy.typing import NDArray
from onnx import numpy_helper
from torch import Tensor, nn

from edge_runtime.errors import DataError, NoInputError, first_line

BUNDLE = "bundle:"
# The exporter keeps the names of the student's tensors, but not of a linear layer without bias.
_NAMELESS = "onnx::MatMul"


def encoder_digest(source: str) -> str:
    """12 hex digits over the file of the encoder. Raises NoInputError."""
    path = _encoder_path(source)
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()[:12]
    except OSError as error:
        raise NoInputError(f"{path}: no such bundle", "check the recipe") from error


def read_encoder(source: str) -> dict[str, Tensor]:
    """Tensors by their names in the student; source is "bundle:DIR", or DIR.

    Linear layers without a bias have lost their names in the graph. They come as "matmul.0" and so
    on, in the order of the graph.

    Raises NoInputError where there is no bundle, DataError where its encoder cannot be read.
    """
    graph = _load(source).graph
    tensors = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    state = {}
    nameless = 0
    for name, levels in tensors.items():
        plain = name.removesuffix("_quantized")
        # The scale of a bias is named after the quantised tensor, that of a weight is not.
        scale = tensors.get(f"{plain}_scale", tensors.get(f"{name}_scale"))
        if plain == name or scale is None:
            continue
        values = _dequantised(levels, scale, transposed=name.startswith(_NAMELESS))
        if name.startswith(_NAMELESS):
            state[f"matmul.{nameless}"] = values
            nameless += 1
        else:
            state[plain] = values
    return state


def first_layers(source: str, count: int) -> bytes:
    """The first `count` layers of the backbone as an int8 graph: uint8 pixels in, float32 out.

    With all layers, its output are the features that the head reads. Raises NoInputError, and
    DataError where the encoder has no such layer.
    """
    model = _load(source)
    following = f"backbone.layers.{count}."
    # The weights of a convolution are its second input.
    convolutions = [node for node in model.graph.node if node.op_type == "Conv"]
    output = next(
        (node.input[0] for node in convolutions if node.input[1].startswith(following)), ""
    )
    if not output:
        last = max((_layer_number(node.input[1]) for node in convolutions), default=-1)
        flat = [node.output[0] for node in model.graph.node if node.op_type == "Flatten"]
        if count != last + 1 or not flat:
            raise DataError(f"{source}: has {last + 1} layers, not {count}", "lower student.frozen")
        output = flat[0]
    pixels = [port.name for port in model.graph.input]
    # The extractor wants to know the shape of what becomes an output.
    model = onnx.shape_inference.infer_shapes(model)
    return onnx.utils.Extractor(model).extract_model(pixels, [output]).SerializeToString()


def _layer_number(weight: str) -> int:
    """ "backbone.layers.12.0.conv.weight..." -> 12; -1 for another tensor."""
    parts = weight.split(".")
    return int(parts[2]) if parts[:2] == ["backbone", "layers"] else -1


def _encoder_path(source: str) -> Path:
    return Path(source.removeprefix(BUNDLE)) / "encoder.onnx"


def _load(source: str) -> onnx.ModelProto:
    path = _encoder_path(source)
    try:
        return onnx.load(path)
    except FileNotFoundError as error:
        raise NoInputError(f"{path}: no such bundle", "check student.pretrained") from error
    except Exception as error:
        # The parser of damaged files raises exceptions of any kind.
        raise DataError(f"{path}: not an ONNX file ({first_line(error)})") from error


def _dequantised(
    levels: NDArray[np.generic], scale: NDArray[np.float32], *, transposed: bool
) -> Tensor:
    """int8 or int32 levels, scale by output channel -> float32.

    transposed: the levels are (inputs, outputs), as a MatMul holds them.
    """
    rows = levels.T if transposed else levels
    by_channel = scale.reshape(-1, *[1] * (rows.ndim - 1))
    return torch.from_numpy(np.ascontiguousarray(rows.astype(np.float32) * by_channel))


@torch.no_grad()
def fill_from_bundle(student: nn.Module, source: str, pixel_scale: float) -> None:
    """Fill a student with the weights of a bundle's encoder, in place.

    pixel_scale: what the exporter divided the weights of the first convolution by.

    Raises NoInputError, and DataError where the encoder is of another network.
    """
    state = read_encoder(source)
    wanted = student.state_dict()
    nameless = iter([name for name in state if name.startswith("matmul.")])
    filled = {}
    for name, target in wanted.items():
        own = name if name in state else next(nameless, "")
        tensor = state.get(own)
        if tensor is None or tensor.shape != target.shape:
            shape = "missing" if tensor is None else f"of shape {tuple(tensor.shape)}"
            raise DataError(
                f"{source}: {name} is {shape}, should be {tuple(target.shape)}",
                "give the student, head and rank that the bundle was made with",
            )
        filled[name] = tensor

    first = next(name for name, target in wanted.items() if target.ndim == 4)
    filled[first] = filled[first] * pixel_scale
    student.load_state_dict(filled)
