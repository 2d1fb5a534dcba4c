"""Rounding weights to int8 so that a layer's output changes least, not each weight by itself.

A 3 x 3 edge filter sums to almost nothing; nine weights rounded one by one do not, and what is left
is multiplied by the brightness of the picture. So the error of each weight is carried on to those
that follow, weighed by how their inputs go together on calibration pictures, H = E[x x^T] (Frantar
et al., "GPTQ", ICLR 2023, equations 2-3), and what remains on average is taken out of the bias
(Nagel et al., ICCV 2019, section 4.2).
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import numpy_helper

POSITIONS = 48  # of each feature map that are looked at, per picture
DAMPING = 0.01  # of the mean diagonal of H, added to it
BLOCK = 128  # weights whose errors are carried on one by one; to those behind them they go together
Matrix = NDArray[np.float64]


@dataclass
class Layer:
    """A Conv or Gemm node of the float32 graph and what its input looked like.

    second: sum of x x^T, (C, K, K); total: sum of x, (C, K); C is the channels of a depthwise
    convolution, else 1.
    """

    node: onnx.NodeProto
    weight: NDArray[np.float32]
    bias: NDArray[np.float32]
    second: Matrix
    total: Matrix
    count: int = 0
    # By weight scale: the calibrators differ in the ranges of activations, and those do not matter here.
    rounded: dict[bytes, NDArray[np.int8]] = field(default_factory=dict)

    @property
    def depthwise(self) -> bool:
        """One input channel for each output channel."""
        return _attribute(self.node, "group", 1) > 1

    @property
    def rows(self) -> NDArray[np.float32]:
        """The weights as (outputs, K)."""
        transposed = self.node.op_type == "Gemm" and not _attribute(self.node, "transB", 0)
        return self.weight.T if transposed else self.weight.reshape(len(self.weight), -1)

    def observe(self, x: NDArray[np.float32], rng: np.random.Generator) -> None:
        """Add what the layer reads at a few positions of its input (1, C, H, W) or (1, C)."""
        patches = _patches(self.node, self.weight, x, rng).astype(np.float64)  # (C, P, kernel)
        if not self.depthwise:
            patches = patches.transpose(1, 0, 2).reshape(1, patches.shape[1], -1)
        self.second += patches.transpose(0, 2, 1) @ patches
        self.total += patches.sum(1)
        self.count += patches.shape[1]


def _attribute(node: onnx.NodeProto, name: str, default: int) -> int:
    return next((a.i for a in node.attribute if a.name == name), default)


def _patches(
    node: onnx.NodeProto,
    weight: NDArray[np.float32],
    x: NDArray[np.float32],
    rng: np.random.Generator,
) -> NDArray[np.float32]:
    """Windows of the kernel's size: (C, positions, kernel area)."""
    if x.ndim == 2:
        return x.T[:, :, None]
    height, width = weight.shape[2:]
    pads = next((list(a.ints) for a in node.attribute if a.name == "pads"), [0, 0, 0, 0])
    padded = np.pad(x[0], ((0, 0), (pads[0], pads[2]), (pads[1], pads[3])))
    # (C, H', W', h, w)
    windows = np.lib.stride_tricks.sliding_window_view(padded, (height, width), (1, 2))
    rows = rng.integers(windows.shape[1], size=POSITIONS)
    columns = rng.integers(windows.shape[2], size=POSITIONS)
    return windows[:, rows, columns].reshape(len(padded), POSITIONS, -1)


def observe_layers(model: bytes, inputs: list[NDArray[np.uint8]]) -> list[Layer]:
    """Every Conv and Gemm of a float32 graph with the statistics of its input."""
    graph = onnx.load_model_from_string(model)
    weights = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.graph.initializer}
    layers = []
    for node in graph.graph.node:
        if node.op_type in ("Conv", "Gemm") and len(node.input) == 3 and node.input[1] in weights:
            layer = Layer(
                node, *(weights[name] for name in node.input[1:]), np.zeros(0), np.zeros(0)
            )
            channels = len(layer.rows) if layer.depthwise else 1
            size = layer.rows.shape[1]
            layer.second = np.zeros((channels, size, size))
            layer.total = np.zeros((channels, size))
            layers.append(layer)

    # The inputs of these layers become outputs of the graph, so that a session returns them.
    tensors = sorted({layer.node.input[0] for layer in layers})
    del graph.graph.output[:]
    graph.graph.output.extend(onnx.ValueInfoProto(name=name) for name in tensors)
    session = onnxruntime.InferenceSession(
        graph.SerializeToString(), providers=["CPUExecutionProvider"]
    )

    feed = session.get_inputs()[0].name
    rng = np.random.default_rng(0)
    for item in inputs:
        activations = dict(zip(tensors, session.run(None, {feed: item}), strict=True))
        for layer in layers:
            layer.observe(activations[layer.node.input[0]], rng)
    return layers


def carry_errors(weights: Matrix, scale: Matrix, second: Matrix) -> NDArray[np.int8]:
    """Integers (O, K) for weights (O, K), scales (O, 1) and H, (1, K, K) for all rows or (O, K, K).

    GPTQ (Frantar et al., ICLR 2023, equations 2-3 and algorithm 1): weight i is rounded, and its
    error e_i = (w_i - q_i) / U_ii is taken from the later weights, w_j -= e_i U_ij, where H^-1 =
    U^T U.
    """
    size = weights.shape[1]
    left = weights.astype(np.float64).copy()
    diagonal = np.arange(size)
    damped = second.copy()
    damped[..., diagonal, diagonal] += (
        DAMPING * np.trace(second, axis1=-2, axis2=-1)[..., None] / size + 1e-9
    )
    # Rows of U say how an error in one weight is best spread over the later ones.
    upper = np.swapaxes(np.linalg.cholesky(np.linalg.inv(damped)), -1, -2)

    out = np.empty(weights.shape, np.int8)
    for start in range(0, size, BLOCK):
        stop = min(start + BLOCK, size)
        errors = np.empty((len(left), stop - start))
        for i in range(start, stop):
            whole = np.clip(np.rint(left[:, i : i + 1] / scale), -127, 127)
            out[:, i] = whole[:, 0]
            error = (left[:, i : i + 1] - whole * scale) / upper[..., i, i].reshape(-1, 1)
            errors[:, i - start] = error[:, 0]
            left[:, i + 1 : stop] -= error * upper[..., i, i + 1 : stop]
        # What the block's errors ask of all later weights, in one product. A depthwise kernel fits
        # into one block, so H is the same for all rows here.
        if stop < size:
            left[:, stop:] -= errors @ upper[0, start:stop, stop:]
    return out


def round_well(quantised: onnx.ModelProto, layers: list[Layer]) -> None:
    """Replace the int8 weights and int32 biases of a QDQ graph, in place; scales stay, but for dead
    channels.

    A channel whose weights have died but not its bias would need a bias beyond 32 bits, or was
    given the scale 1: its weights become 0 and its scale one that suits the bias.
    """
    tensors = {tensor.name: tensor for tensor in quantised.graph.initializer}
    for layer in layers:
        weight, bias = layer.node.input[1:]
        if f"{weight}_quantized" not in tensors or f"{bias}_quantized" not in tensors:
            continue
        rows = layer.rows.astype(np.float64)
        scale, steps = (
            numpy_helper.to_array(tensors[name]).astype(np.float64).reshape(-1, 1)
            for name in (f"{weight}_scale", f"{bias}_quantized_scale")
        )
        dead = (np.abs(layer.bias[:, None]) / steps > 2**30) | (
            np.abs(rows).max(1, keepdims=True) == 0
        )
        suits = np.abs(layer.bias[:, None]) / 2**20 + 1e-12
        scale = np.where(dead, scale * suits / steps, scale)
        steps = np.where(dead, suits, steps)
        whole = layer.rounded.get(scale.tobytes())
        if whole is None:
            whole = carry_errors(np.where(dead, 0, rows), scale, layer.second / layer.count)
            layer.rounded[scale.tobytes()] = whole
        shift = ((whole * scale - rows) * (layer.total / layer.count)).sum(1)
        shaped = (
            whole.T if layer.node.op_type == "Gemm" and layer.weight.shape != rows.shape else whole
        )
        _set(tensors[f"{weight}_quantized"], shaped.reshape(layer.weight.shape))
        _set(tensors[f"{weight}_scale"], scale)
        _set(tensors[f"{bias}_quantized"], np.rint((layer.bias - shift) / steps[:, 0]))
        _set(tensors[f"{bias}_quantized_scale"], steps)


def _set(tensor: onnx.TensorProto, values: NDArray[np.generic]) -> None:
    kind = onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type)
    tensor.CopyFrom(
        numpy_helper.from_array(values.astype(kind).reshape(tuple(tensor.dims)), tensor.name)
    )
