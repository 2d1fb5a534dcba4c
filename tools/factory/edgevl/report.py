"""The report of an EdgeVL run: the names of its rows and figures, and its table."""

from __future__ import annotations

from enum import StrEnum
from typing import Any

import numpy as np

from tools.lib import markdown


class Row(StrEnum):
    """A student of the ablation table, in the order of the table."""

    START = "start, RGB only, fp32"
    STAGE1_RGB = "stage 1 on RGB, fp32"  # only with --ablation
    STAGE1_OTHER = "stage 1 on non-RGB, fp32"  # only with --ablation
    STAGE1 = "stage 1 on both, fp32"
    PTQ = "+ PTQ, int8"
    QAT = "+ QAT, int8"  # only with --ablation
    STAGE2 = "+ stage 2 with QAT, int8"
    STAGE2_FP32 = "+ stage 2, its fp32 self"
    START_IN_GREY = "start, shown the colour picture in grey"  # what losing colour alone costs


class Figure(StrEnum):
    """A key of edgevl.json beside the rows."""

    SHARES = "validation by share of the way of stage 1"
    CALIBRATORS = "calibrators, cosine to fp32"
    STAGE2_CHECKS = "validation at each check of stage 2"
    QAT_CHECKS = "validation at each check of QAT"
    PARITY = "torch fake-quantised to ONNX int8, cosine"
    NOISE = "ONNX int8 without its optimiser to with it, cosine"
    GAINS = "gains of stage 2 with QAT"


def edgevl_table(report: dict[str, Any]) -> str:
    """The ablation table as Markdown, and below it what its figures are worth."""
    pairs = report["pairs"]
    head = ["student", "RGB", "non-RGB", "average"]
    head += [f"{name} {facts['modality']}" for name, facts in pairs.items()]
    head += ["whole frames", "pseudo-label", "cosine RGB", "cosine non-RGB"]

    measured = [name for name in Row if name in report["rows"]]
    rows = [_cells(name, report["rows"][name], list(pairs)) for name in measured]
    return "\n\n".join((markdown.table(head, rows, "lr"), _legend(report), _gains(report)))


def _cells(name: str, row: dict[str, Any], pairs: list[str]) -> list[str]:
    other = [row[pair]["other"] for pair in pairs]
    cells = [name, *(f"{row[key]:.1f}" for key in ("rgb", "other", "average"))]
    cells += [f"{figures['agreement']:.1f}" for figures in other]
    cells.append(" / ".join(f"{figures['whole frames']:.0f}" for figures in other))
    cells.append(" / ".join(_accuracy(figures["pseudo-label accuracy"]) for figures in other))
    for half in ("rgb", "other"):
        cosines = [row[pair][half]["cosine"] for pair in pairs]
        cells.append(f"{np.mean(cosines):.3f}")
    return cells


def _accuracy(percent: float | None) -> str:
    """A dash where no pseudo-label of the set was sure."""
    return "-" if percent is None else f"{percent:.0f}"


def _legend(report: dict[str, Any]) -> str:
    parity = report[Figure.PARITY]
    noise = report[Figure.NOISE]
    pairs = report["pairs"].items()
    sizes = ", ".join(f"{facts['test pairs']} of {name}" for name, facts in pairs)
    return (
        "Agreement in % of the top-1 label with the teacher's on the colour picture; "
        f"{report['views']} views a pair, {sizes}. "
        f"Torch fake-quantised against ONNX Runtime int8: cosine {parity['mean']:.5f} mean, "
        f"{parity['min']:.5f} lowest (ONNX Runtime without its graph optimiser against with it: "
        f"{noise['mean']:.5f}, {noise['min']:.5f}). {report['seconds']} s in all."
    )


def _gains(report: dict[str, Any]) -> str:
    gains = [
        f"{name} {gain['points']:+.1f} ({gain['low']:+.1f} to {gain['high']:+.1f})"
        for name, gain in report[Figure.GAINS].items()
    ]
    title = "Points that stage 2 with QAT gains, and the 95 % interval by bootstrap over pairs"
    return f"{title}: {'; '.join(gains)}."
