"""A quantised ONNX graph as a torch module that can be trained, and back: quantisation-aware
training.

tools.quantize decides where the graph is rounded and in which ranges (calibration). This module
reads that same graph node by node, so the fake quantisers stand exactly where ONNX Runtime rounds.
Writing it back replaces the weights and leaves everything else as it was. Rounding passes the
gradient straight through inside the range (Bengio et al. 2013; Jacob et al. 2018, section 3).
"""

# Over 400 lines because reading the graph and writing it back use the same table of nodes: split,
# the two halves would have to agree on it across files.

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import torch
import torch.nn.functional as F
from onnx import numpy_helper
from torch import Tensor, nn

from edge_runtime.errors import DataError

WEIGHT_LEVELS = 127  # int8, symmetric by channel: -128 is not used
BIAS_LEVELS = 2**30  # int32; the other half is for the sum that the bias is added to


class _Weights(nn.Module):
    """The trainable tensors, by the names of the float graph.

    It takes the place of a student's backbone; `layers` is empty, because no layer is ever run.
    """

    def __init__(self, tensors: dict[str, Tensor]) -> None:
        super().__init__()
        self.names = list(tensors)
        self.tensors = nn.ParameterList([nn.Parameter(t) for t in tensors.values()])
        self.layers = nn.Sequential()

    def by_name(self) -> dict[str, Tensor]:
        """Name -> tensor. A ParameterDict would do, but it allows no dots in names."""
        return dict(zip(self.names, self.tensors, strict=True))


class FakeQuantised(nn.Module):
    """A student as its int8 graph computes it.

    RGB values 0 ... 255 (B, 3, H, W) -> unit embeddings (B, dim). The ranges of activations stay as
    calibrated. With `rounding` off, weights are used as they are and activations are only clamped
    to their ranges: the same graph in float32.
    """

    def __init__(self, int8: bytes) -> None:
        """Start from the weights as they were rounded, so from the accuracy of the int8 graph.

        Raises DataError for a graph with an operator that is unknown here.
        """
        super().__init__()
        self.model = onnx.load_model_from_string(int8)
        operators = {node.op_type for node in self.model.graph.node}
        unknown = operators - set(_OPERATORS) - {"QuantizeLinear", "DequantizeLinear"}
        if unknown:
            raise DataError(
                f"cannot train a quantised graph with {', '.join(sorted(unknown))}",
                "use the int8 graph as it is",
            )
        self.constants = {
            t.name: torch.tensor(numpy_helper.to_array(t)) for t in self.model.graph.initializer
        }

        # A constant that is dequantised is a weight or a bias; the quantiser named it after it.
        self._axis: dict[str, int] = {}
        trained: dict[str, Tensor] = {}
        for node in self.model.graph.node:
            if node.op_type == "DequantizeLinear" and node.input[0] in self.constants:
                name = node.input[0].removesuffix("_quantized")
                self._axis[name] = int(_attributes(node).get("axis", 1))
                trained[name] = self._dequantised(node)

        # The trainer looks for `backbone` and `head`, as a Student has them.
        self.backbone = _Weights(trained)
        self.head = nn.Module()
        self._products = {p.weight: p for p in self._find_products()}
        self._bias_of = {p.bias: p for p in self._products.values() if p.bias}

        # Prepared once, because reading a node's attributes in every forward pass is slow.
        self._steps = [self._step(node) for node in self.model.graph.node]
        self._paths: dict[str, list[int]] = {}
        self.rounding = True

    def _dequantised(self, node: onnx.NodeProto) -> Tensor:
        """The constant behind a DequantizeLinear, float32; all zero points are 0."""
        levels = self.constants[node.input[0]].double()
        scale = self.constants[node.input[1]].double()
        if levels.ndim > 1 and scale.ndim:
            axis = int(_attributes(node).get("axis", 1))
            scale = scale.reshape([-1 if d == axis else 1 for d in range(levels.ndim)])
        return (levels * scale).float()

    def _step(
        self, node: onnx.NodeProto
    ) -> Callable[[FakeQuantised, dict[str, Any], dict[str, Tensor]], Any]:
        """A node as a function of the module, the values so far and the weights.

        The module is an argument because the trainer copies it: a closure over `self` would go on
        reading the original's weights.
        """
        first = node.input[0]
        if node.op_type == "QuantizeLinear":
            scale, zero = self._range(node)
            return lambda module, values, _: module._round(values[first], scale, zero)
        if node.op_type == "DequantizeLinear":
            name = first.removesuffix("_quantized")
            if first in self.constants:
                return lambda module, _, weights: module._weight(name, weights)
            if first in self._raw_pixels():
                scale, zero = self._range(node)
                return lambda _module, values, _: (values[first].float() - zero) * scale
            # `_round` returns float values already, so nothing is left to do.
            return lambda _module, values, _: values[first]
        operator = _OPERATORS[node.op_type]
        attributes = _attributes(node)
        names = list(node.input)
        return lambda _module, values, _: operator([values[name] for name in names], attributes)

    def freeze(self, count: int) -> None:
        """Train only what follows the first `count` layers of the backbone, like
        `Student.freeze`."""
        for name, tensor in self.backbone.by_name().items():
            layer = _layer(name)
            tensor.requires_grad_(layer is None or layer >= count)

    def forward(self, x: Tensor, after: int = 0) -> Tensor:
        """(B, 3, H, W) RGB values 0 ... 255 -> (B, dim), unit norm, float32.

        With `after` > 0, `x` is the tensor `stem_of(after)`, dequantised.
        """
        graph = self.model.graph
        if after:
            source = self.stem_of(after).name
        else:
            source = graph.input[0].name
            x = x.permute(0, 2, 3, 1)  # the graph reads NHWC

        weights = self.backbone.by_name()
        # ONNX names an absent optional input "".
        values: dict[str, Any] = {**self.constants, "": None, source: x}
        for number in self._between(source):
            node = graph.node[number]
            values[node.output[0]] = self._steps[number](self, values, weights)
        return F.normalize(values[graph.output[0].name].float(), dim=1)

    def stem_of(self, count: int) -> QuantisedTensor:
        """The rounded tensor between the first `count` layers of the backbone and the rest.

        Raises DataError where the layers are not joined by one quantised tensor.
        """
        maker = {name: node for node in self.model.graph.node for name in node.output}
        first = next(p.user for name, p in self._products.items() if _layer(name) == count)
        node = maker.get(first.input[0])
        quantise = maker.get(node.input[0]) if node and node.op_type == "DequantizeLinear" else None
        if quantise is None or quantise.op_type != "QuantizeLinear":
            raise DataError(
                f"layer {count} of the quantised graph does not start at a quantised tensor",
                "freeze another number of layers",
            )
        return QuantisedTensor(quantise.output[0], *self._range(quantise))

    def cut(self, count: int) -> bytes:
        """The first `count` layers with their present weights, as an int8 graph whose output is
        `stem_of(count)`."""
        model = onnx.load_model_from_string(self.to_onnx())
        name = self.stem_of(count).name
        source = model.graph.input[0].name

        # Backwards from the stem: a node is needed when a needed node reads its output.
        needed = {name}
        nodes = []
        for node in reversed(model.graph.node):
            if needed & set(node.output):
                nodes.append(node)
                needed |= set(node.input)

        constants = [t for t in model.graph.initializer if t.name in needed]
        output = onnx.helper.make_tensor_value_info(name, onnx.TensorProto.UINT8, None)
        inputs = [i for i in model.graph.input if i.name == source]
        graph = onnx.helper.make_graph(nodes[::-1], "stem", inputs, [output], constants)
        return onnx.helper.make_model(
            graph, opset_imports=model.opset_import, ir_version=model.ir_version
        ).SerializeToString()

    def _between(self, source: str) -> list[int]:
        """Numbers of the nodes that lead from a tensor to the output, in order."""
        if source not in self._paths:
            nodes = self.model.graph.node
            needed = {self.model.graph.output[0].name}
            numbers = []
            for number in range(len(nodes) - 1, -1, -1):
                if needed & set(nodes[number].output) - {source}:
                    numbers.append(number)
                    needed |= set(nodes[number].input)
            self._paths[source] = numbers[::-1]
        return self._paths[source]

    def _raw_pixels(self) -> set[str]:
        """Names of the tensors that hold the input's own uint8 values."""
        names = {self.model.graph.input[0].name}
        for node in self.model.graph.node:
            if node.op_type == "Transpose" and node.input[0] in names:
                names.add(node.output[0])
        return names

    def _range(self, node: onnx.NodeProto) -> tuple[float, int]:
        """(scale, zero point) of an activation."""
        return float(self.constants[node.input[1]]), int(self.constants[node.input[2]])

    def _round(self, x: Tensor, scale: float, zero: int) -> Tensor:
        if not self.rounding:
            return x.clamp(-zero * scale, (255 - zero) * scale)
        return torch.fake_quantize_per_tensor_affine(x, scale, zero, 0, 255)

    def _weight(self, name: str, weights: dict[str, Tensor]) -> Tensor:
        if not self.rounding:
            return weights[name]
        if name in self._bias_of:
            # int32 is too wide for torch's fake quantiser, so the rounding is written out. The
            # difference has no gradient, so the gradient passes straight through.
            product = self._bias_of[name]
            scale = product.input_scale * self._scale(product.weight, weights)
            rounded = torch.round(weights[name].detach() / scale) * scale
            return weights[name] + (rounded - weights[name].detach())

        axis = self._axis[name]
        scale = self._scale(name, weights)
        zero = torch.zeros(len(scale), dtype=torch.int32)
        return torch.fake_quantize_per_channel_affine(
            weights[name], scale, zero, axis, -WEIGHT_LEVELS, WEIGHT_LEVELS
        )

    @torch.no_grad()
    def _scale(self, name: str, weights: dict[str, Tensor]) -> Tensor:
        """Scale of each output channel.

        It is the one that the quantiser chose, or larger where training has moved a weight or its
        bias out of range.
        """
        value = weights[name]
        product = self._products[name]
        largest = value.abs().amax([d for d in range(value.ndim) if d != self._axis[name]])
        chosen = self.constants[product.nodes[0].input[1]]
        # A channel of zeros needs no scale of its own; its bias alone decides below.
        scale = torch.where(largest > 0, torch.maximum(chosen, largest / WEIGHT_LEVELS), 0)
        if product.bias:
            least = weights[product.bias].abs() / (product.input_scale * BIAS_LEVELS)
            scale = torch.maximum(scale, least)
        return scale.clamp_min(1e-12)

    @torch.no_grad()
    def to_onnx(self) -> bytes:
        """The int8 graph with the trained weights and biases in place of the old ones."""
        model = onnx.ModelProto()
        model.CopyFrom(self.model)
        weights = self.backbone.by_name()
        new: dict[str, np.ndarray] = {}
        for name, product in self._products.items():
            scale = self._scale(name, weights)
            shape = [-1 if d == self._axis[name] else 1 for d in range(weights[name].ndim)]
            by_channel = scale.reshape(shape)
            levels = torch.round(weights[name] / by_channel).clamp(-WEIGHT_LEVELS, WEIGHT_LEVELS)
            new[product.nodes[0].input[0]] = levels.numpy()
            new[product.nodes[0].input[1]] = scale.numpy()
            if product.bias:
                bias_scale = product.input_scale * scale
                levels = torch.round(weights[product.bias] / bias_scale)
                new[product.nodes[1].input[0]] = levels.numpy()
                new[product.nodes[1].input[1]] = bias_scale.numpy()

        for tensor in model.graph.initializer:
            if tensor.name in new:
                old = numpy_helper.to_array(tensor)
                changed = new[tensor.name].reshape(old.shape).astype(old.dtype)
                tensor.CopyFrom(numpy_helper.from_array(changed, tensor.name))
        onnx.checker.check_model(model, full_check=True)
        return model.SerializeToString()

    def _find_products(self) -> Iterator[_Product]:
        """Convolutions and matrix products whose weights the graph holds as int8 constants."""
        maker = {name: node for node in self.model.graph.node for name in node.output}
        for node in self.model.graph.node:
            if node.op_type in ("Conv", "Gemm", "MatMul"):
                product = self._product_of(node, maker)
                if product:
                    yield product

    def _product_of(
        self, node: onnx.NodeProto, maker: dict[str, onnx.NodeProto]
    ) -> _Product | None:
        inputs = [maker[name] for name in node.input[1:] if name in maker]
        # A Gemm may add an activation instead of a bias; that one is rounded by its own node.
        stored = tuple(entry for entry in inputs if self._is_stored(entry))
        if not stored or stored[0].output[0] != node.input[1]:
            return None
        names = [dequantise.input[0].removesuffix("_quantized") for dequantise in stored]
        bias = names[1] if len(names) > 1 else ""
        input_scale = float(self.constants[maker[node.input[0]].input[1]])
        return _Product(names[0], bias, input_scale, stored, node)

    def _is_stored(self, node: onnx.NodeProto) -> bool:
        """Whether a node only restores a constant."""
        return node.op_type == "DequantizeLinear" and node.input[0] in self.constants


@dataclass(frozen=True)
class _Product:
    """A Conv, Gemm or MatMul with stored weights.

    Attributes:
        weight, bias: names of its tensors; the bias may be "".
        input_scale: scale of the activation it reads.
        nodes: the nodes that dequantise weights and bias.
        user: the product's own node.
    """

    weight: str
    bias: str
    input_scale: float
    nodes: tuple[onnx.NodeProto, ...]
    user: onnx.NodeProto


@dataclass(frozen=True)
class QuantisedTensor:
    """A uint8 tensor of the graph: the number it stands for is (value - zero) * scale."""

    name: str
    scale: float
    zero: int


def _layer(name: str) -> int | None:
    """Number of the backbone layer that a weight belongs to; None in head and tail."""
    match = re.match(r"backbone\.layers\.(\d+)\.", name)
    return int(match[1]) if match else None


def _attributes(node: onnx.NodeProto) -> dict[str, Any]:
    return {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}


def _conv(x: list[Any], a: dict[str, Any]) -> Tensor:
    # ONNX lists (top, left, bottom, right). torch pads evenly, so uneven padding is done before;
    # F.pad takes (left, right, top, bottom).
    pads = list(a.get("pads", [0, 0, 0, 0]))
    if pads[:2] != pads[2:]:
        x[0] = F.pad(x[0], (pads[1], pads[3], pads[0], pads[2]))
        pads = [0, 0, 0, 0]

    bias = x[2] if len(x) > 2 else None
    strides = a.get("strides", 1)
    dilations = a.get("dilations", 1)
    return F.conv2d(x[0], x[1], bias, strides, pads[:2], dilations, a.get("group", 1))


def _gemm(x: list[Any], a: dict[str, Any]) -> Tensor:
    weight = x[1] if a.get("transB") else x[1].T
    bias = x[2] if len(x) > 2 else None
    return F.linear(x[0], weight, bias)


def _reduce(x: list[Any], a: dict[str, Any], how: str) -> Tensor:
    # From opset 18 on, the axes are an input and no longer an attribute.
    axes = x[1].tolist() if len(x) > 1 else a["axes"]
    return getattr(x[0], how)(axes, keepdim=bool(a.get("keepdims", 1)))


def _clip(x: list[Any], _a: dict[str, Any]) -> Tensor:
    def bound(number: int) -> float | None:
        return None if len(x) <= number or x[number] is None else float(x[number])

    return x[0].clamp(bound(1), bound(2))


# Every operator that an exported student has; each takes its inputs and its attributes.
_OPERATORS: dict[str, Any] = {
    "Conv": _conv,
    "Gemm": _gemm,
    "MatMul": lambda x, a: x[0] @ x[1],
    "Add": lambda x, a: x[0] + x[1],
    "Mul": lambda x, a: x[0] * x[1],
    "Div": lambda x, a: x[0] / x[1],
    "Sqrt": lambda x, a: x[0].sqrt(),
    "Relu": lambda x, a: x[0].relu(),
    "Sigmoid": lambda x, a: x[0].sigmoid(),
    "Softmax": lambda x, a: x[0].softmax(a.get("axis", -1)),
    "Clip": _clip,
    "Transpose": lambda x, a: x[0].permute(*a["perm"]),
    "Flatten": lambda x, a: x[0].flatten(1),
    "GlobalAveragePool": lambda x, a: x[0].mean((2, 3), keepdim=True),
    "ReduceMean": lambda x, a: _reduce(x, a, "mean"),
    "ReduceSum": lambda x, a: _reduce(x, a, "sum"),
}
