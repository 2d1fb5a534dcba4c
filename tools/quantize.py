"""Quantise an exported student to int8: `python -m tools.quantize RUN --data DIR`.

Static QDQ: activations QUInt8 by tensor, weights QInt8 by channel, rounded by what they do to their layer
(factory/rounding.py). Several calibrators are tried on training pictures; the one whose embeddings lie nearest to
float32's on held-out training pictures is kept. Pictures go through the runtime's own preprocessing.
Writes RUN/encoder.onnx and RUN/quantize.json (the parity report).
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
from numpy.typing import NDArray
from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, QuantType
from onnxruntime.quantization.calibrate import create_calibrator
from onnxruntime.quantization.qdq_quantizer import QDQQuantizer
from tqdm import tqdm

from edge_runtime.errors import DataError, EdgeLabelError, NoInputError
from edge_runtime.files import write_atomically
from edge_runtime.model.bundle import InputSpec
from edge_runtime.model.encoder import session_options
from edge_runtime.model.preprocess import Preprocessor
from tools.export import INPUT, UNIT_NORM, Deployed, drop_unused_constants
from tools.factory.augment import apply_view, draw
from tools.factory.datasets import Sample, decode, scan
from tools.factory.recipe import Recipe
from tools.factory.rounding import Layer, observe_layers, round_well
from tools.factory.run import load_run
from tools.factory.students import PIXEL_OFFSET

CALIBRATORS: dict[str, tuple[CalibrationMethod, dict[str, Any]]] = {
    "minmax": (CalibrationMethod.MinMax, {}),
    "percentile 99.99": (CalibrationMethod.Percentile, {"percentile": 99.99}),
    "percentile 99.999": (CalibrationMethod.Percentile, {"percentile": 99.999}),
    "entropy": (CalibrationMethod.Entropy, {}),
}
# The unit-norm division at the end is left in float32: a few hundred numbers, and squaring wants the range.
OPERATORS = ["Conv", "Gemm", "MatMul", "Add", "Mul", "Clip", "Relu", "Sigmoid", "GlobalAveragePool", "Flatten"]
CHUNK = 8  # the histogram calibrators keep every activation of a chunk in memory

Inputs = list[NDArray[np.uint8]]  # each (1, H, W, 3) RGB


class _Reader(CalibrationDataReader):
    def __init__(self, inputs: Inputs) -> None:
        self._left = iter(inputs)

    def get_next(self) -> dict[str, NDArray[np.uint8]] | None:
        """The next feed of the calibrator, None at the end."""
        item = next(self._left, None)
        return None if item is None else {INPUT: item}


def run_all(model: bytes, inputs: Inputs, *, optimised: bool = True) -> NDArray[np.float32]:
    """Embeddings (N, dim) as the runtime computes them: same session options, unit norm.

    Not `optimised`, the same arithmetic runs in another order: how far two right answers may lie apart.
    """
    options = session_options(2)
    if not optimised:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    rows = np.concatenate([session.run(None, {INPUT: x})[0] for x in inputs])
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def cosines(a: NDArray[np.float32], b: NDArray[np.float32]) -> dict[str, float]:
    """Mean, lowest and 5th percentile of the cosine between paired unit rows."""
    values = (a * b).sum(1)
    return {
        "mean": round(float(values.mean()), 5),
        "p5": round(float(np.percentile(values, 5)), 5),
        "min": round(float(values.min()), 5),
    }


def quantise(model: bytes, calibration: Inputs, method: str, layers: Sequence[Layer] = ()) -> bytes:
    """float32 ONNX bytes -> int8 QDQ ONNX bytes, ranges from the calibration pictures by the named calibrator.

    `layers` (rounding.observe_layers): round weights by what they do to their layer; without it, each to the nearest.
    """
    with tempfile.TemporaryDirectory() as scratch:
        source = Path(scratch) / "model.onnx"
        source.write_bytes(model)
        which, options = CALIBRATORS[method]
        with contextlib.redirect_stdout(io.StringIO()):  # the calibrators talk
            calibrator = create_calibrator(
                source, OPERATORS, str(Path(scratch) / "augmented.onnx"), which, extra_options=options
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
    """Drop the zero points of weights and biases: all are zero, which is also what their absence means.

    Of convolutions only; ONNX Runtime (1.31) fuses a Gemm without them into something it then refuses.
    """
    tensors = {t.name: t for t in graph.graph.initializer}
    owners = {name: node.op_type for node in graph.graph.node for name in node.input}
    for node in graph.graph.node:
        if node.op_type == "DequantizeLinear" and len(node.input) == 3 and owners.get(node.output[0]) == "Conv":
            point = tensors.get(node.input[2])
            if point is not None and len(point.dims) == 1 and not onnx.numpy_helper.to_array(point).any():
                del node.input[2]
    drop_unused_constants(graph.graph)


def _float_nodes(graph: onnx.ModelProto) -> list[str]:
    """Nodes that stay in float32: the unit norm, and a Gemm that adds one tensor to another.

    ONNX Runtime has no int8 kernel for such a Gemm; it would turn the int8 weights back into float32 in every frame
    (12 % of the encoder on a Cortex-A72, docs/decisions/003-arm64-speed-and-memory.md).
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
    """Read uint8 pixels as quantised values with scale 1 and zero point 114: Cast, Sub and QuantizeLinear go.

    Transpose -> Cast -> Sub -> QuantizeLinear -> DequantizeLinear becomes Transpose -> DequantizeLinear.
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


def pictures_for(recipe: Recipe, samples: Sequence[Sample], count: int, seed: int) -> Iterator[NDArray[np.uint8]]:
    """`count` pictures through the runtime's preprocessing; one in three under a synthetic condition it may get."""
    side = recipe.input.size
    prepare = Preprocessor(InputSpec(INPUT, "NHWC", (side, side), recipe.input.resize, ("rgb",)))
    rng = np.random.default_rng((recipe.seed, 6, seed))
    found = 0
    for i in tqdm(rng.permutation(len(samples)), total=count, desc="pictures", unit="pic", leave=False):
        try:
            batch = prepare(decode(samples[i].read())).copy()
        except (OSError, ValueError):
            continue  # listed by distill
        if recipe.data[samples[i].source].conditions and rng.random() < 1 / 3:
            view = draw((recipe.seed, 6, seed, int(i)), recipe.augment, side, conditions=True)
            batch[0] = apply_view(batch[0], view, side)
        yield batch
        found += 1
        if found == count:
            return
    if not found:
        raise DataError("no readable picture to calibrate on; check --data")


def _parity_torch(run: Path, inputs: Inputs) -> NDArray[np.float32]:
    _, student, _ = load_run(run)
    deployed = Deployed(student).eval()
    with torch.no_grad():
        return np.concatenate([deployed(torch.from_numpy(x)).numpy() for x in inputs])


def quantise_run(
    run: Path, data: Path, *, calibration: int, held_out: int, methods: Sequence[str] = tuple(CALIBRATORS)
) -> dict[str, Any]:
    """Try the calibrators, write RUN/encoder.onnx and RUN/quantize.json; returns the report.

    Raises NoInputError before the export, DataError without pictures, or where every calibrator gives up.
    """
    recipe, _, _ = load_run(run)
    source = run / "encoder.fp32.onnx"
    if not source.is_file():
        raise NoInputError(f"{source}: missing; first: python -m tools.export {run}")
    model = source.read_bytes()
    samples = scan(recipe.data, data)
    train = [s for s in samples if not s.held_out and recipe.data[s.source].weight]
    unseen = [s for s in samples if s.held_out] or train
    seen, judged = (
        list(pictures_for(recipe, s, n, k)) for k, (s, n) in enumerate(((train, calibration), (unseen, held_out)))
    )
    reference = run_all(model, judged)
    report: dict[str, Any] = {
        "calibration_pictures": len(seen),
        "held_out_pictures": len(judged),
        "torch_fp32_to_onnx_fp32": cosines(_parity_torch(run, judged), reference),
        "onnx_fp32_to_int8": {},
        "failed": {},
        "fp32_bytes": len(model),
    }
    plain = run_all(quantise(model, seen, "minmax"), judged)
    report["onnx_fp32_to_int8"]["minmax, nearest rounding"] = cosines(plain, reference)
    layers = observe_layers(model, seen)
    best = (-2.0, "", b"")
    for method in tqdm(methods, desc="calibrators", unit="method"):
        try:
            candidate = quantise(model, seen, method, layers)
        except ValueError as error:  # the histogram calibrators give up on a tensor that hardly varies
            report["failed"][method] = str(error)
            continue
        report["onnx_fp32_to_int8"][method] = cosines(run_all(candidate, judged), reference)
        mean = report["onnx_fp32_to_int8"][method]["mean"]
        if mean > best[0]:
            best = (mean, method, candidate)
    if not best[1]:
        reasons = "; ".join(f"{method}: {reason}" for method, reason in report["failed"].items())
        raise DataError(f"{run}: no calibrator gives ranges ({reasons}); try another --calibrator, or more pictures")
    report |= {"kept": best[1], "int8_bytes": len(best[2])}
    write_atomically(run / "encoder.onnx", best[2])
    write_atomically(run / "quantize.json", json.dumps(report, indent=1).encode())
    return report


def main(argv: list[str] | None = None) -> int:
    """Run the verb; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tools.quantize", description=__doc__.split("\n\n")[0])
    parser.add_argument("run", type=Path, help="a folder of tools.distill with encoder.fp32.onnx in it")
    parser.add_argument("--data", type=Path, default=Path(), help="folder the recipe's picture paths are relative to")
    parser.add_argument("--calibration", type=int, default=256, help="training pictures the ranges come from")
    parser.add_argument("--held-out", type=int, default=256, help="held-out training pictures that choose")
    parser.add_argument("--calibrator", action="append", choices=list(CALIBRATORS), help="only this one (repeatable)")
    args = parser.parse_args(argv)
    methods = args.calibrator or list(CALIBRATORS)
    try:
        report = quantise_run(
            args.run, args.data, calibration=args.calibration, held_out=args.held_out, methods=methods
        )
    except EdgeLabelError as error:
        print(f"quantize: {error}", file=sys.stderr)
        return error.exit_code
    print(table(report))
    return 0


def table(report: dict[str, Any]) -> str:
    """The parity report as Markdown."""
    rows = [("torch fp32 -> ONNX fp32", report["torch_fp32_to_onnx_fp32"])]
    rows += [(f"ONNX fp32 -> int8, {name}", values) for name, values in report["onnx_fp32_to_int8"].items()]
    lines = ["| cosine of embeddings | mean | 5th percentile | lowest |", "| --- | --- | --- | --- |"]
    for name, v in rows:
        mark = " (kept)" if name.endswith(f", {report['kept']}") else ""
        lines.append(f"| {name}{mark} | {v['mean']:.4f} | {v['p5']:.4f} | {v['min']:.4f} |")
    lines += [f"| {name}: {reason} | | | |" for name, reason in report["failed"].items()]
    sizes = f"{report['fp32_bytes'] / 1e6:.1f} MB -> {report['int8_bytes'] / 1e6:.1f} MB"
    return "\n".join([*lines, "", f"{sizes}, on {report['held_out_pictures']} held-out pictures"])


if __name__ == "__main__":
    sys.exit(main())
