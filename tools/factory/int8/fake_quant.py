"""A quantised ONNX graph as a torch module that can be trained, and back: quantisation-aware
training.

tools.quantize decides where the graph is rounded and in which ranges (calibration). Reading that
very graph, node by node, puts the fake quantisers exactly where ONNX Runtime will round; writing it
back replaces the weights and leaves everything else as it was. Rounding passes the gradient
straight through inside the range (Bengio et al. 2013; Jacob et al. 2018, section 3).
"""

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

WEIGHT_LEVELS = 127  # int8, symmetric by channel
BIAS_LEVELS = 2**30  # int32, with room to spare


class _Weights(nn.Module):
    """The trainable tensors, by the names of the float graph; `layers` is empty, there are no
    layers to walk."""

    def __init__(self, tensors: dict[str, Tensor]) -> None:
        super().__init__()
        self.names = list(tensors)
        self.tensors = nn.ParameterList([nn.Parameter(t) for t in tensors.values()])
        self.layers = nn.Sequential()

    def by_name(self) -> dict[str, Tensor]:
        return dict(zip(self.names, self.tensors, strict=True))


class FakeQuantised(nn.Module):
    """A student as its int8 graph computes it: RGB values 0 ... 255 (B, 3, H, W) -> unit embeddings
    (B, dim).

    Ranges of activations stay as calibrated. With `rounding` off the same weights are used as they
    are, and
    activations only clamped to their ranges: the graph's float32 self.
    """

    def __init__(self, int8: bytes) -> None:
        """Starts with the weights as they were rounded, so that it starts as good as what it is
        made of.

        Raises DataError for a graph with an operator that is unknown here.
        """
        super().__init__()
        self.model = onnx.load_model_from_string(int8)
        unknown = (
            {n.op_type for n in self.model.graph.node}
            - set(_OPERATORS)
            - {"QuantizeLinear", "DequantizeLinear"}
        )
        if unknown:
            raise DataError(
                f"cannot train a quantised graph with {', '.join(sorted(unknown))}",
                "use the int8 as it is",
            )
        self.constants = {
            t.name: torch.tensor(numpy_helper.to_array(t)) for t in self.model.graph.initializer
        }
        self._axis: dict[str, int] = {}
        trained: dict[str, Tensor] = {}
        for node in self.model.graph.node:
            if node.op_type == "DequantizeLinear" and node.input[0] in self.constants:
                name = node.input[0].removesuffix("_quantized")
                self._axis[name] = int(_attributes(node).get("axis", 1))
                trained[name] = self._dequantised(node)
        self.backbone = _Weights(trained)
        self.head = nn.Module()
        self._products = {p.weight: p for p in self._find_products()}
        self._bias_of = {p.bias: p for p in self._products.values() if p.bias}
        self._steps = [self._step(node) for node in self.model.graph.node]
        self._paths: dict[str, list[int]] = {}
        self.rounding = True

    def _dequantised(self, node: onnx.NodeProto) -> Tensor:
        levels = self.constants[node.input[0]].double()
        scale = self.constants[node.input[1]].double()
        if levels.ndim > 1 and scale.ndim:
            axis = int(_attributes(node).get("axis", 1))
            scale = scale.reshape([-1 if d == axis else 1 for d in range(levels.ndim)])
        return (levels * scale).float()

    def _step(
        self, node: onnx.NodeProto
    ) -> Callable[[FakeQuantised, dict[str, Any], dict[str, Tensor]], Any]:
        """What a node does, given the module (it may be a copy of this one), the values so far and
        the weights."""
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
            # what a quantiser made is kept dequantised
            return lambda _module, values, _: values[first]
        operator = _OPERATORS[node.op_type]
        attributes = _attributes(node)
        names = list(node.input)
        return lambda _module, values, _: operator([values[name] for name in names], attributes)

    def freeze(self, count: int) -> None:
        """Train only what follows the first `count` layers of the backbone, as `Student.freeze`
        does."""
        for name, tensor in self.backbone.by_name().items():
            layer = _layer(name)
            tensor.requires_grad_(layer is None or layer >= count)

    def forward(self, x: Tensor, after: int = 0) -> Tensor:
        """(B, 3, H, W) RGB values 0 ... 255 -> (B, dim), unit norm, float32.

        With `after` > 0, `x` is what `stem_of` says the graph holds after that many layers,
        dequantised.
        """
        graph = self.model.graph
        source, x = (
            (self.stem_of(after).name, x) if after else (graph.input[0].name, x.permute(0, 2, 3, 1))
        )
        weights = self.backbone.by_name()
        needed = self._between(source)
        values: dict[str, Any] = {**self.constants, "": None, source: x}
        for number in needed:
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
                "freeze others",
            )
        return QuantisedTensor(quantise.output[0], *self._range(quantise))

    def cut(self, count: int) -> bytes:
        """The first `count` layers alone, weights as they are now, as an int8 graph that gives
        `stem_of(count)`."""
        model = onnx.load_model_from_string(self.to_onnx())
        name = self.stem_of(count).name
        source = model.graph.input[0].name
        wanted = {name}
        kept = []
        for node in reversed(model.graph.node):
            if wanted & set(node.output):
                kept.append(node)
                wanted |= set(node.input)
        constants = [t for t in model.graph.initializer if t.name in wanted]
        output = onnx.helper.make_tensor_value_info(name, onnx.TensorProto.UINT8, None)
        inputs = [i for i in model.graph.input if i.name == source]
        graph = onnx.helper.make_graph(kept[::-1], "stem", inputs, [output], constants)
        return onnx.helper.make_model(
            graph, opset_imports=model.opset_import, ir_version=model.ir_version
        ).SerializeToString()

    def _between(self, source: str) -> list[int]:
        """Numbers of the nodes that lead from a tensor to the output, in order."""
        if source not in self._paths:
            nodes = self.model.graph.node
            wanted = {self.model.graph.output[0].name}
            numbers = []
            for number in range(len(nodes) - 1, -1, -1):
                if wanted & set(nodes[number].output) - {source}:
                    numbers.append(number)
                    wanted |= set(nodes[number].input)
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
        return float(self.constants[node.input[1]]), int(self.constants[node.input[2]])

    def _round(self, x: Tensor, scale: float, zero: int) -> Tensor:
        if not self.rounding:
            return x.clamp(-zero * scale, (255 - zero) * scale)
        return torch.fake_quantize_per_tensor_affine(x, scale, zero, 0, 255)

    def _weight(self, name: str, weights: dict[str, Tensor]) -> Tensor:
        if not self.rounding:
            return weights[name]
        if name in self._bias_of:
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
        """Scale of each output channel: as the quantiser chose it, more where a weight or its bias
        has outgrown it."""
        value = weights[name]
        product = self._products[name]
        largest = value.abs().amax([d for d in range(value.ndim) if d != self._axis[name]])
        chosen = self.constants[product.nodes[0].input[1]]
        scale = torch.where(largest > 0, torch.maximum(chosen, largest / WEIGHT_LEVELS), 0)
        if product.bias:
            scale = torch.maximum(
                scale, weights[product.bias].abs() / (product.input_scale * BIAS_LEVELS)
            )
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
            by_channel = scale.reshape(
                [-1 if d == self._axis[name] else 1 for d in range(weights[name].ndim)]
            )
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
        # A Gemm may add an activation in place of a bias: that one is rounded where it was made.
        stored = tuple(made for made in inputs if self._is_stored(made))
        if not stored or stored[0].output[0] != node.input[1]:
            return None
        names = [made.input[0].removesuffix("_quantized") for made in stored]
        bias = names[1] if len(names) > 1 else ""
        input_scale = float(self.constants[maker[node.input[0]].input[1]])
        return _Product(names[0], bias, input_scale, stored, node)

    def _is_stored(self, node: onnx.NodeProto) -> bool:
        """Whether a node only restores a constant."""
        return node.op_type == "DequantizeLinear" and node.input[0] in self.constants


@dataclass(frozen=True)
class _Product:
    """A Conv, Gemm or MatMul (`user`): its weights and bias, scale of its input, the nodes that
    dequantise both."""

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
    found = re.match(r"backbone\.layers\.(\d+)\.", name)
    return int(found[1]) if found else None


def _attributes(node: onnx.NodeProto) -> dict[str, Any]:
    return {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}


def _conv(x: list[Any], a: dict[str, Any]) -> Tensor:
    pads = list(a.get("pads", [0, 0, 0, 0]))
    if pads[:2] != pads[2:]:
        x[0] = F.pad(x[0], (pads[1], pads[3], pads[0], pads[2]))
        pads = [0, 0, 0, 0]
    bias = x[2] if len(x) > 2 else None
    return F.conv2d(
        x[0], x[1], bias, a.get("strides", 1), pads[:2], a.get("dilations", 1), a.get("group", 1)
    )


def _gemm(x: list[Any], a: dict[str, Any]) -> Tensor:
    return F.linear(x[0], x[1] if a.get("transB") else x[1].T, x[2] if len(x) > 2 else None)


def _reduce(x: list[Any], a: dict[str, Any], how: str) -> Tensor:
    axes = x[1].tolist() if len(x) > 1 else a["axes"]
    return getattr(x[0], how)(axes, keepdim=bool(a.get("keepdims", 1)))


def _clip(x: list[Any], _a: dict[str, Any]) -> Tensor:
    low, high = (x[i] if len(x) > i else None for i in (1, 2))
    return x[0].clamp(None if low is None else float(low), None if high is None else float(high))


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
