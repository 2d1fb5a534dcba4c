"""The ablation table of an EdgeVL run."""

from __future__ import annotations

from typing import Any

import numpy as np

ROWS = (  # of the table; the second, third and sixth only with --ablation
    "start, RGB only, fp32",
    "stage 1 on RGB, fp32",
    "stage 1 on non-RGB, fp32",
    "stage 1 on both, fp32",
    "+ PTQ, int8",
    "+ QAT, int8",
    "+ stage 2 with QAT, int8",
    "+ stage 2, its fp32 self",
    "start, shown the colour picture in grey",  # what losing colour alone costs the start
)


def edgevl_table(report: dict[str, Any]) -> str:
    """The ablation table as Markdown."""
    names = list(report["pairs"])
    head = ["student", "RGB", "non-RGB", "average"]
    head += [f"{n} {m['modality']}" for n, m in report["pairs"].items()]
    head += ["whole frames", "pseudo-label", "cosine RGB", "cosine non-RGB"]
    lines = [f"| {' | '.join(head)} |", "| --- " + "| ---: " * (len(head) - 1) + "|"]
    for name, row in ((name, report["rows"][name]) for name in ROWS if name in report["rows"]):
        other = [row[n]["other"] for n in names]
        cells = [f"{row[key]:.1f}" for key in ("rgb", "other", "average")]
        cells += [f"{o['agreement']:.1f}" for o in other]
        cells.append(" / ".join(f"{o['whole frames']:.0f}" for o in other))
        cells.append(
            " / ".join(
                "-" if (v := o["pseudo-label accuracy"]) is None else f"{v:.0f}" for o in other
            )
        )
        cells += [
            f"{np.mean([row[n][half]['cosine'] for n in names]):.3f}" for half in ("rgb", "other")
        ]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    parity = report["torch fake-quantised to ONNX int8, cosine"]
    itself = report["ONNX int8 without its optimiser to with it, cosine"]
    sizes = ", ".join(f"{m['test pairs']} of {n}" for n, m in report["pairs"].items())
    lines += [
        "",
        f"Agreement in % of the top-1 label with the teacher's on the colour picture; {report['views']} views a pair, "
        f"{sizes}. Torch fake-quantised against ONNX Runtime int8: cosine {parity['mean']:.5f} mean, "
        f"{parity['min']:.5f} lowest (ONNX Runtime without its graph optimiser against with it: {itself['mean']:.5f}, "
        f"{itself['min']:.5f}). {report['seconds']} s in all.",
        "",
        "Points that stage 2 with QAT gains, and the 95 % interval by bootstrap over pairs: "
        + "; ".join(
            f"{name} {g['points']:+.1f} ({g['low']:+.1f} to {g['high']:+.1f})"
            for name, g in report["gains of stage 2 with QAT"].items()
        )
        + ".",
    ]
    return "\n".join(lines)
