"""How far an int8 graph lies from its float32 one: embeddings of the same pictures, compared."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from edge_runtime.model.encoder import session_options
from tools.factory.int8.export import INPUT
from tools.lib import markdown

Inputs = list[NDArray[np.uint8]]  # each (1, H, W, 3) RGB


def run_all(model: bytes, inputs: Inputs, *, optimised: bool = True) -> NDArray[np.float32]:
    """Embeddings (N, dim) as the runtime computes them: same session options, unit norm.

    optimised: let ONNX Runtime rewrite the graph, as the runtime does. Without it the same
    arithmetic runs in another order, which shows how far two correct answers may lie apart.
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


def parity_table(report: dict[str, Any]) -> str:
    """The parity report as Markdown."""
    rows = [_row("torch fp32 -> ONNX fp32", report["torch_fp32_to_onnx_fp32"])]
    for method, values in report["onnx_fp32_to_int8"].items():
        mark = " (kept)" if method == report["kept"] else ""
        rows.append(_row(f"ONNX fp32 -> int8, {method}{mark}", values))
    for method, reason in report["failed"].items():
        rows.append([f"{method}: {reason}", "", "", ""])

    head = ["cosine of embeddings", "mean", "5th percentile", "lowest"]
    sizes = f"{report['fp32_bytes'] / 1e6:.1f} MB -> {report['int8_bytes'] / 1e6:.1f} MB"
    pictures = f"{report['held_out_pictures']} held-out pictures"
    return f"{markdown.table(head, rows)}\n\n{sizes}, on {pictures}"


def _row(name: str, cosine: dict[str, float]) -> list[str]:
    return [name, *(f"{cosine[key]:.4f}" for key in ("mean", "p5", "min"))]
