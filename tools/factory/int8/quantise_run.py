"""A run folder's float32 graph -> its int8 graph, by the calibrator that held-out pictures
choose."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from edge_runtime.errors import DataError, NoInputError
from edge_runtime.files import write_atomically
from tools.factory.data.samples import scan
from tools.factory.int8.export import Deployed
from tools.factory.int8.parity import Inputs, cosines, run_all
from tools.factory.int8.pictures import pictures_for
from tools.factory.int8.quantise import CALIBRATORS, quantise
from tools.factory.int8.rounding import observe_layers
from tools.factory.training.run_folder import load_run


def _parity_torch(run: Path, inputs: Inputs) -> NDArray[np.float32]:
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

    Raises NoInputError before the export, DataError without pictures, or where every calibrator
    gives up.
    """
    recipe, _, _ = load_run(run)
    source = run / "encoder.fp32.onnx"
    if not source.is_file():
        raise NoInputError(f"{source}: missing", f"first: python -m tools.export {run}")
    model = source.read_bytes()
    samples = scan(recipe.data, data)
    train = [s for s in samples if not s.held_out and recipe.data[s.source].weight]
    unseen = [s for s in samples if s.held_out] or train
    seen, judged = (
        list(pictures_for(recipe, s, n, k))
        for k, (s, n) in enumerate(((train, calibration), (unseen, held_out)))
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
        except (
            ValueError
        ) as error:  # the histogram calibrators give up on a tensor that hardly varies
            report["failed"][method] = str(error)
            continue
        report["onnx_fp32_to_int8"][method] = cosines(run_all(candidate, judged), reference)
        mean = report["onnx_fp32_to_int8"][method]["mean"]
        if mean > best[0]:
            best = (mean, method, candidate)
    if not best[1]:
        reasons = "; ".join(f"{method}: {reason}" for method, reason in report["failed"].items())
        raise DataError(
            f"{run}: no calibrator gives ranges ({reasons})",
            "try another --calibrator, or more pictures",
        )
    report |= {"kept": best[1], "int8_bytes": len(best[2])}
    write_atomically(run / "encoder.onnx", best[2])
    write_atomically(run / "quantize.json", json.dumps(report, indent=1).encode())
    return report
