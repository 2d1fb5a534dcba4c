"""The scores as Markdown and as pictures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tools.factory.evaluation import metrics
from tools.factory.evaluation.labelled import LabelledSet


def draw_set(
    cosines: NDArray[np.float32], labelled: LabelledSet, logit_scale: float, output: Path
) -> None:
    """OUTPUT/NAME.png: confusion on the left, reliability on the right."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    probability = metrics.probabilities(cosines, logit_scale)
    confidence, accuracy, count = metrics.reliability(probability, labelled.truth)
    figure, (left, right) = pyplot.subplots(1, 2, figsize=(11, 5))
    left.imshow(metrics.confusion(cosines, labelled.truth), cmap="viridis", vmin=0, vmax=1)
    left.set(title=f"{labelled.name}: confusion", xlabel="said", ylabel="is")
    if len(labelled.classes) <= 20:
        left.set_xticks(range(len(labelled.classes)), labelled.classes, rotation=90)
        left.set_yticks(range(len(labelled.classes)), labelled.classes)
    right.plot([0, 1], [0, 1], "--", color="grey")
    filled = count > 0
    right.plot(confidence[filled], accuracy[filled], "o-")
    right.bar(
        (np.arange(metrics.BINS) + 0.5) / metrics.BINS,
        count / count.sum(),
        1 / metrics.BINS,
        alpha=0.2,
    )
    error = metrics.calibration_error(probability, labelled.truth)
    right.set(
        title=f"reliability, calibration error {error:.3f}",
        xlabel="confidence",
        ylabel="share right",
    )
    right.set(xlim=(0, 1), ylim=(0, 1))
    figure.tight_layout()
    output.mkdir(parents=True, exist_ok=True)
    figure.savefig(output / f"{labelled.name}.png", dpi=100)
    pyplot.close(figure)


def score_table(report: dict[str, Any]) -> str:
    """The report as Markdown, as it stands in the model card; a second table where float32 was
    scored too."""
    judged, *others = report["mean_top1"]
    head = ["set", "pictures", "classes", f"{judged} top-1", "top-5", "AUC", "ECE"]
    lines = [_row(head), _row(["---"] * len(head))]
    for name, entry in report["sets"].items():
        s = entry[judged]
        scores = [
            f"{100 * s['top1']:.1f}",
            f"{100 * s['top5']:.1f}",
            f"{s['auc']:.3f}",
            f"{s['ece']:.3f}",
        ]
        lines.append(_row([name, str(entry["pictures"]), str(entry["classes"]), *scores]))
    mean = f"Mean top-1: {100 * report['mean_top1'][judged]:.1f} %."
    lines += ["", f"{mean} ECE: calibration error at a logit scale of {report['logit_scale']:g}."]
    approximate = sum(entry["approximate_texts"] for entry in report["sets"].values())
    total = sum(entry["classes"] for entry in report["sets"].values())
    if approximate:
        lines.append(f"{approximate} of {total} class texts are approximate (sentence map).")
        lines += [
            f"{name}: {100 * entry['top1_genuine_texts']:.1f} % on pictures of classes with a genuine text row, "
            f"{100 * entry['top1_approximate_texts']:.1f} % on the others."
            for name, entry in report["sets"].items()
            if "top1_genuine_texts" in entry
        ]
    if kept := report.get("retention"):
        lines.append(
            f"Retention against genuine teacher embeddings on {kept['pictures']} pictures: "
            f"{100 * kept['student_top1']:.1f} % of {100 * kept['teacher_top1']:.1f} % = "
            f"{100 * kept['retention']:.1f} %; "
            f"same answer {100 * kept['agreement']:.1f} %; centred cosine {kept['centred_cosine']:.3f}."
        )
    for other in others:
        lines += ["", *_against(report, judged, other)]
    return "\n".join(lines)


def _against(report: dict[str, Any], judged: str, other: str) -> list[str]:
    """A table of what one column costs against another."""
    head = ["set", f"{other} top-1", f"{judged} top-1", "difference", "mean cosine"]
    lines = [_row(head), _row(["---"] * len(head))]
    entries = {name: (e[other]["top1"], e[judged]["top1"]) for name, e in report["sets"].items()}
    cosines = {name: f"{e[f'cosine_{judged}_{other}']:.4f}" for name, e in report["sets"].items()}
    entries["mean"] = (report["mean_top1"][other], report["mean_top1"][judged])
    for name, (before, after) in entries.items():
        figures = [f"{100 * before:.1f}", f"{100 * after:.1f}", f"{100 * (after - before):+.1f}"]
        lines.append(_row([name, *figures, cosines.get(name, "")]))
    return lines


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"
