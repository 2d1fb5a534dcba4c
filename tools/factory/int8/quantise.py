"""float32 ONNX -> int8 ONNX, static QDQ: activations QUInt8 by tensor, weights QInt8 by channel."""

from __future__ import annotations

import contextlib
import io
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, QuantType
from onnxruntime.quantization.calibrate import create_calibrator
from onnxruntime.quantization.qdq_quantizer import QDQQuantizer

from tools.factory.int8.export import INPUT, UNIT_NORM, drop_unused_constants
from tools.factory.int8.parity import Inputs
from tools.factory.int8.rounding import Layer, round_well
from tools.factory.students.student import PIXEL_OFFSET

# How a range is chosen from the activations that calibration pictures cause: their extremes, their
# percentiles, or the range that loses the least information.
CALIBRATORS: dict[str, tuple[CalibrationMethod, dict[str, Any]]] = {
    "minmax": (CalibrationMethod.MinMax, {}),
    "percentile 99.99": (CalibrationMethod.Percentile, {"percentile": 99.99}),
    "percentile 99.999": (CalibrationMethod.Percentile, {"percentile": 99.999}),
    "entropy": (CalibrationMethod.Entropy, {}),
}
# What is computed in int8. The unit norm at the end stays in float32: it is a few hundred numbers,
# and their squares need a wide range.
OPERATORS = [
    "Conv",
    "Gemm",
    "MatMul",
    "Add",
    "Mul",
    "Clip",
    "Relu",
    "Sigmoid",
    "GlobalAveragePool",
    "Flatten",
]
CHUNK = 8  # pictures; the histogram calibrators keep every activation of a chunk in memory


class _Reader(CalibrationDataReader):
    def __init__(self, inputs: Inputs) -> None:
        self._left = iter(inputs)

    def get_next(self) -> dict[str, NDArray[np.uint8]] | None:
        """The next feed of the calibrator, None at the end."""
        item = next(self._left, None)
        return None if item is None else {INPUT: item}


def quantise(model: bytes, calibration: Inputs, method: str, layers: Sequence[Layer] = ()) -> bytes:
    """float32 ONNX bytes -> int8 QDQ ONNX bytes.

    Args:
        model: the float32 graph.
        calibration: pictures that the ranges of activations are taken from.
        method: a name of CALIBRATORS.
        layers: from rounding.observe_layers; weights are rounded so that the output of their layer
            changes least. Without it, each weight is rounded to the nearest level.

    Raises ValueError where the calibrator finds no range.
    """
    with tempfile.TemporaryDirectory() as scratch:
        source = Path(scratch) / "model.onnx"
        source.write_bytes(model)
        ranges = _activation_ranges(source, calibration, method)

        # The range of the pixels is known: 0 ... 255 in steps of 1.
        graph = onnx.load(source)
        first = _centred_pixels(graph)
        fixed = {
            "scale": np.array(1.0, np.float32),
            "zero_point": np.array(PIXEL_OFFSET, np.uint8),
            "quant_type": QuantType.QUInt8,
        }
        quantizer = QDQQuantizer(
            graph,
            per_channel=True,
            reduce_range=False,
            weight_qType=QuantType.QInt8,
            activation_qType=QuantType.QUInt8,
            tensors_range=ranges,
            nodes_to_quantize=[],
            nodes_to_exclude=_float_nodes(graph),
            op_types_to_quantize=OPERATORS,
            extra_options={"TensorQuantOverrides": {first: [fixed]}},
        )
        quantizer.quantize_model()
        quantizer.model.topological_sort()

    graph = quantizer.model.model
    _feed_pixels_straight(graph, first)
    round_well(graph, layers)
    _leave_out_zeros(graph)
    onnx.checker.check_model(graph, full_check=True)
    return graph.SerializeToString()


def _activation_ranges(source: Path, calibration: Inputs, method: str) -> Any:
    """The calibrator's range of every activation of the graph in `source`."""
    kind, options = CALIBRATORS[method]
    augmented = str(source.with_name("augmented.onnx"))
    # The calibrators print their progress.
    with contextlib.redirect_stdout(io.StringIO()):
        calibrator = create_calibrator(source, OPERATORS, augmented, kind, extra_options=options)
        for start in range(0, len(calibration), CHUNK):
            calibrator.collect_data(_Reader(calibration[start : start + CHUNK]))
        return calibrator.compute_data()


def _leave_out_zeros(graph: onnx.ModelProto) -> None:
    """Drop the zero points of weights and biases of convolutions: all are zero, and an absent one
    means zero too.

    Not those of a Gemm: without them, ONNX Runtime (1.31) fuses it into an operator that it then
    refuses.
    """
    tensors = {t.name: t for t in graph.graph.initializer}
    owners = {name: node.op_type for node in graph.graph.node for name in node.input}
    for node in graph.graph.node:
        if node.op_type != "DequantizeLinear" or len(node.input) != 3:
            continue
        if owners.get(node.output[0]) != "Conv":
            continue

        # One number by channel: the zero point of an activation is a single number.
        point = tensors.get(node.input[2])
        by_channel = point is not None and len(point.dims) == 1
        if by_channel and not onnx.numpy_helper.to_array(point).any():
            del node.input[2]
    drop_unused_constants(graph.graph)


def _float_nodes(graph: onnx.ModelProto) -> list[str]:
    """Nodes that stay in float32: the unit norm, and a Gemm that adds one tensor to another.

    ONNX Runtime has no int8 kernel for such a Gemm. It would convert the int8 weights to float32 in
    every frame, which takes 12 % of the encoder's time on a Cortex-A72
    (docs/decisions/003-arm64-speed-and-memory.md).
    """
    constants = {tensor.name for tensor in graph.graph.initializer}
    return [
        node.name
        for node in graph.graph.node
        if node.name.startswith(UNIT_NORM)
        or (node.op_type == "Gemm" and len(node.input) == 3 and node.input[2] not in constants)
    ]


def _centred_pixels(graph: onnx.ModelProto) -> str:
    """Name of the tensor that holds pixels - 114, the input of the first convolution."""
    node = next(n for n in graph.graph.node if n.op_type == "Conv")
    return str(node.input[0])


def _feed_pixels_straight(model: onnx.ModelProto, first: str) -> None:
    """Read uint8 pixels as quantised values with scale 1 and zero point 114.

    Transpose -> Cast -> Sub -> QuantizeLinear -> DequantizeLinear becomes
    Transpose -> DequantizeLinear: the three nodes between compute what the pixels are already.
    """
    graph = model.graph
    maker = {output: node for node in graph.node for output in node.output}
    quantize = next(n for n in graph.node if n.op_type == "QuantizeLinear" and n.input[0] == first)
    chain = [quantize]
    while chain[-1].op_type != "Cast":
        chain.append(maker[chain[-1].input[0]])

    pixels = chain[-1].input[0]
    for node in graph.node:
        for i, name in enumerate(node.input):
            if name == quantize.output[0]:
                node.input[i] = pixels
    for node in chain:
        graph.node.remove(node)
    drop_unused_constants(graph)
    # Shapes and types of the removed tensors; ONNX Runtime infers the others again.
    del graph.value_info[:]
