"""A run folder's float32 graph -> its int8 graph.

All calibrators are tried; the one that does best on held-out pictures is kept.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from edge_runtime.errors import DataError, NoInputError
from edge_runtime.system.files import write_atomically
from tools.factory.data.samples import scan
from tools.factory.int8.export import Deployed
from tools.factory.int8.parity import Inputs, cosines, run_all
from tools.factory.int8.pictures import pictures_for
from tools.factory.int8.quantise import CALIBRATORS, quantise
from tools.factory.int8.rounding import observe_layers
from tools.factory.recipe import Recipe
from tools.factory.training.run_folder import load_run


def _parity_torch(run: Path, inputs: Inputs) -> NDArray[np.float32]:
    """What torch itself computes: a difference from the ONNX graph would be the export's fault."""
    _, student, _ = load_run(run)
    deployed = Deployed(student).eval()
    with torch.no_grad():
        return np.concatenate([deployed(torch.from_numpy(x)).numpy() for x in inputs])


def quantise_run(
    run: Path,
    data: Path,
    *,
    calibration: int,
    held_out: int,
    methods: Sequence[str] = tuple(CALIBRATORS),
) -> dict[str, Any]:
    """Try the calibrators, write RUN/encoder.onnx and RUN/quantize.json; returns the report.

    Raises NoInputError where the run is not exported yet, and DataError where no picture can be
    read or every calibrator fails.
    """
    source = run / "encoder.fp32.onnx"
    recipe, _, _ = load_run(run)
    if not source.is_file():
        raise NoInputError(f"{source}: missing", f"first: python -m tools.export {run}")
    model = source.read_bytes()
    seen, judged = _pictures(recipe, data, calibration, held_out)
    reference = run_all(model, judged)
    report: dict[str, Any] = {
        "calibration_pictures": len(seen),
        "held_out_pictures": len(judged),
        "torch_fp32_to_onnx_fp32": cosines(_parity_torch(run, judged), reference),
        "onnx_fp32_to_int8": {},
        "failed": {},
        "fp32_bytes": len(model),
    }

    # For the report: what rounding by layer gains over rounding each weight to the nearest.
    plain = run_all(quantise(model, seen, "minmax"), judged)
    report["onnx_fp32_to_int8"]["minmax, nearest rounding"] = cosines(plain, reference)
    best = (-2.0, "", b"")  # below every cosine
    for method, candidate in _try_calibrators(model, seen, methods, report["failed"]):
        cosine = cosines(run_all(candidate, judged), reference)
        report["onnx_fp32_to_int8"][method] = cosine
        if cosine["mean"] > best[0]:
            best = (cosine["mean"], method, candidate)

    _, method, int8 = best
    if not method:
        reasons = "; ".join(f"{name}: {reason}" for name, reason in report["failed"].items())
        raise DataError(
            f"{run}: no calibrator finds ranges ({reasons})",
            "try another --calibrator, or more pictures",
        )
    report |= {"kept": method, "int8_bytes": len(int8)}
    write_atomically(run / "encoder.onnx", int8)
    write_atomically(run / "quantize.json", json.dumps(report, indent=1).encode())
    return report


def _pictures(recipe: Recipe, data: Path, calibration: int, held_out: int) -> tuple[Inputs, Inputs]:
    """(pictures to calibrate on, pictures to judge by).

    The latter are held-out pictures, or training pictures where the recipe holds none out.
    """
    samples = scan(recipe.data, data)
    train = [
        sample for sample in samples if not sample.held_out and recipe.data[sample.source].weight
    ]
    unseen = [sample for sample in samples if sample.held_out] or train
    seen = list(pictures_for(recipe, train, calibration, 0))
    judged = list(pictures_for(recipe, unseen, held_out, 1))
    return seen, judged


def _try_calibrators(
    model: bytes, seen: Inputs, methods: Sequence[str], failed: dict[str, str]
) -> Iterator[tuple[str, bytes]]:
    """(calibrator, int8 graph) one by one; writes the reason into `failed` where one fails."""
    layers = observe_layers(model, seen)
    for method in tqdm(methods, desc="calibrators", unit="method"):
        try:
            graph = quantise(model, seen, method, layers)
        except ValueError as error:
            # The histogram calibrators fail on a tensor that hardly varies.
            failed[method] = str(error)
            continue
        yield method, graph
