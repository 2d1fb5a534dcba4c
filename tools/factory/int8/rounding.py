"""Rounding weights to int8 so that a layer's output changes least, not each weight by itself.

The nine weights of an edge filter sum to almost nothing. Rounded one by one they do not, and the
error of the sum is multiplied by the brightness of the picture. So the error of each weight is
carried on to the weights that follow, weighted by how their inputs correlate on calibration
pictures, H = E[x x^T] (Frantar et al., "GPTQ", ICLR 2023, equations 2-3). The mean error that
remains is subtracted from the bias (Nagel et al., ICCV 2019, section 4.2).
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import numpy_helper

POSITIONS = 48  # windows of each feature map that are sampled, per picture
DAMPING = 0.01  # share of the mean diagonal that is added to H, which may be singular; GPTQ's value
BLOCK = 128  # weights between which errors are carried one by one; later weights get them together
BIAS_LIMIT = 2**30  # steps; a larger bias would not leave room for the sum in int32
BIAS_STEPS = 2**20  # steps of the bias of a channel whose weights are all 0
Matrix = NDArray[np.float64]


@dataclass
class Layer:
    """A Conv or Gemm node of the float32 graph and the statistics of its input.

    Attributes:
        second: sum of x x^T, (C, K, K), where C is the channels of a depthwise convolution, else 1.
        total: sum of x, (C, K).
        count: number of samples in both sums.
        rounded: rounded weights by weight scale. The calibrators differ only in the ranges of
            activations, so the second of them finds its weights here.
    """

    node: onnx.NodeProto
    weight: NDArray[np.float32]
    bias: NDArray[np.float32]
    second: Matrix
    total: Matrix
    count: int = 0
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
    # A view of shape (C, H', W', h, w); only the sampled windows are copied.
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
            weight, bias = (weights[name] for name in node.input[1:])
            layer = Layer(node, weight, bias, np.zeros(0), np.zeros(0))
            # Only now: the layer knows how its weights are laid out.
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
    # The last term: a channel that is always 0 has a mean diagonal of 0.
    trace = np.trace(second, axis1=-2, axis2=-1)[..., None]
    damped[..., diagonal, diagonal] += DAMPING * trace / size + 1e-9
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
        # The errors of a block reach all later weights in one product. A depthwise kernel fits into
        # one block, so H is the same for all rows here.
        if stop < size:
            left[:, stop:] -= errors @ upper[0, start:stop, stop:]
    return out


def round_well(quantised: onnx.ModelProto, layers: list[Layer]) -> None:
    """Replace the int8 weights and int32 biases of a QDQ graph, in place.

    Scales stay, except in dead channels. Training may drive the weights of a channel to 0 and leave
    its bias. The quantiser gives such a channel the scale 1, or one so small that the bias would
    not fit into 32 bits. Its weights become 0 here, and its scale one that suits the bias.
    """
    tensors = {tensor.name: tensor for tensor in quantised.graph.initializer}
    for layer in layers:
        weight, bias = layer.node.input[1:]
        if f"{weight}_quantized" not in tensors or f"{bias}_quantized" not in tensors:
            continue
        rows = layer.rows.astype(np.float64)
        scale = _column(tensors[f"{weight}_scale"])
        steps = _column(tensors[f"{bias}_quantized_scale"])

        overflows = np.abs(layer.bias[:, None]) / steps > BIAS_LIMIT
        dead = overflows | (np.abs(rows).max(1, keepdims=True) == 0)
        suitable = np.abs(layer.bias[:, None]) / BIAS_STEPS + 1e-12
        scale = np.where(dead, scale * suitable / steps, scale)
        steps = np.where(dead, suitable, steps)

        whole = layer.rounded.get(scale.tobytes())
        if whole is None:
            whole = carry_errors(np.where(dead, 0, rows), scale, layer.second / layer.count)
            layer.rounded[scale.tobytes()] = whole

        # The mean of the error over the calibration pictures moves into the bias.
        shift = ((whole * scale - rows) * (layer.total / layer.count)).sum(1)
        transposed = layer.node.op_type == "Gemm" and layer.weight.shape != rows.shape
        shaped = whole.T if transposed else whole
        _set(tensors[f"{weight}_quantized"], shaped.reshape(layer.weight.shape))
        _set(tensors[f"{weight}_scale"], scale)
        _set(tensors[f"{bias}_quantized"], np.rint((layer.bias - shift) / steps[:, 0]))
        _set(tensors[f"{bias}_quantized_scale"], steps)


def _column(tensor: onnx.TensorProto) -> Matrix:
    """(outputs, 1) in float64: scales are divided by each other, and rounded only once."""
    return numpy_helper.to_array(tensor).astype(np.float64).reshape(-1, 1)


def _set(tensor: onnx.TensorProto, values: NDArray[np.generic]) -> None:
    """Replace the values of a tensor; its name, shape and type stay."""
    kind = onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type)
    array = values.astype(kind).reshape(tuple(tensor.dims))
    tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))
