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

CALIBRATORS: dict[str, tuple[CalibrationMethod, dict[str, Any]]] = {
    "minmax": (CalibrationMethod.MinMax, {}),
    "percentile 99.99": (CalibrationMethod.Percentile, {"percentile": 99.99}),
    "percentile 99.999": (CalibrationMethod.Percentile, {"percentile": 99.999}),
    "entropy": (CalibrationMethod.Entropy, {}),
}
# The unit-norm division at the end is left in float32: a few hundred numbers, and squaring wants the range.
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
CHUNK = 8  # the histogram calibrators keep every activation of a chunk in memory


class _Reader(CalibrationDataReader):
    def __init__(self, inputs: Inputs) -> None:
        self._left = iter(inputs)

    def get_next(self) -> dict[str, NDArray[np.uint8]] | None:
        """The next feed of the calibrator, None at the end."""
        item = next(self._left, None)
        return None if item is None else {INPUT: item}


def quantise(model: bytes, calibration: Inputs, method: str, layers: Sequence[Layer] = ()) -> bytes:
    """float32 ONNX bytes -> int8 QDQ ONNX bytes, ranges from the calibration pictures by the named
    calibrator.

    `layers` (rounding.observe_layers): round weights by what they do to their layer; without it,
    each to the nearest.
    """
    with tempfile.TemporaryDirectory() as scratch:
        source = Path(scratch) / "model.onnx"
        source.write_bytes(model)
        which, options = CALIBRATORS[method]
        with contextlib.redirect_stdout(io.StringIO()):  # the calibrators talk
            calibrator = create_calibrator(
                source,
                OPERATORS,
                str(Path(scratch) / "augmented.onnx"),
                which,
                extra_options=options,
            )
            for start in range(0, len(calibration), CHUNK):
                calibrator.collect_data(_Reader(calibration[start : start + CHUNK]))
            ranges = calibrator.compute_data()
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


def _leave_out_zeros(graph: onnx.ModelProto) -> None:
    """Drop the zero points of weights and biases: all are zero, which is also what their absence
    means.

    Of convolutions only; ONNX Runtime (1.31) fuses a Gemm without them into something it then
    refuses.
    """
    tensors = {t.name: t for t in graph.graph.initializer}
    owners = {name: node.op_type for node in graph.graph.node for name in node.input}
    for node in graph.graph.node:
        if (
            node.op_type == "DequantizeLinear"
            and len(node.input) == 3
            and owners.get(node.output[0]) == "Conv"
        ):
            point = tensors.get(node.input[2])
            if (
                point is not None
                and len(point.dims) == 1
                and not onnx.numpy_helper.to_array(point).any()
            ):
                del node.input[2]
    drop_unused_constants(graph.graph)


def _float_nodes(graph: onnx.ModelProto) -> list[str]:
    """Nodes that stay in float32: the unit norm, and a Gemm that adds one tensor to another.

    ONNX Runtime has no int8 kernel for such a Gemm; it would turn the int8 weights back into
    float32 in every frame (12 % of the encoder on a Cortex-A72,
    docs/decisions/003-arm64-speed-and-memory.md).
    """
    constants = {tensor.name for tensor in graph.graph.initializer}
    return [
        node.name
        for node in graph.graph.node
        if node.name.startswith(UNIT_NORM)
        or (node.op_type == "Gemm" and len(node.input) == 3 and node.input[2] not in constants)
    ]


def _centred_pixels(graph: onnx.ModelProto) -> str:
    """Name of the tensor pixels - 114, the input of the first convolution."""
    node = next(n for n in graph.graph.node if n.op_type == "Conv")
    return str(node.input[0])


def _feed_pixels_straight(model: onnx.ModelProto, first: str) -> None:
    """Read uint8 pixels as quantised values with scale 1 and zero point 114: Cast, Sub and
    QuantizeLinear go.

    Transpose -> Cast -> Sub -> QuantizeLinear -> DequantizeLinear becomes Transpose ->
    DequantizeLinear.
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
    del graph.value_info[:]
