"""The scores as Markdown and as pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tools.factory.evaluation import metrics
from tools.factory.evaluation.labelled import LabelledSet
from tools.lib import markdown


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
    """The report as Markdown, as it stands in the model card.

    Where float32 was scored too, a second table says what int8 costs against it.
    """
    judged, *others = report["mean_top1"]
    lines = [_scores(report, judged), "", _mean(report, judged)]
    lines += _approximate_texts(report)
    if "retention" in report:
        lines.append(_retention(report["retention"]))
    for other in others:
        lines += ["", _against(report, judged, other)]
    return "\n".join(lines)


def _scores(report: dict[str, Any], judged: str) -> str:
    head = ["set", "pictures", "classes", f"{judged} top-1", "top-5", "AUC", "ECE"]
    rows = []
    for name, entry in report["sets"].items():
        scores = entry[judged]
        rows.append(
            [
                name,
                str(entry["pictures"]),
                str(entry["classes"]),
                _percent(scores["top1"]),
                _percent(scores["top5"]),
                f"{scores['auc']:.3f}",
                f"{scores['ece']:.3f}",
            ]
        )
    return markdown.table(head, rows)


def _mean(report: dict[str, Any], judged: str) -> str:
    mean = f"Mean top-1: {_percent(report['mean_top1'][judged])} %."
    return f"{mean} ECE: calibration error at a logit scale of {report['logit_scale']:g}."


def _approximate_texts(report: dict[str, Any]) -> list[str]:
    """How many class texts no text tower made, and what that costs where a set has both."""
    sets = report["sets"]
    approximate = sum(entry["approximate_texts"] for entry in sets.values())
    total = sum(entry["classes"] for entry in sets.values())
    if not approximate:
        return []

    lines = [f"{approximate} of {total} class texts are approximate (sentence map)."]
    for name, entry in sets.items():
        if "top1_genuine_texts" in entry:
            genuine = _percent(entry["top1_genuine_texts"])
            others = _percent(entry["top1_approximate_texts"])
            lines.append(
                f"{name}: {genuine} % on pictures of classes with a genuine text row, "
                f"{others} % on the others."
            )
    return lines


def _retention(kept: dict[str, float]) -> str:
    return (
        f"Retention against genuine teacher embeddings on {kept['pictures']} pictures: "
        f"{_percent(kept['student_top1'])} % of {_percent(kept['teacher_top1'])} % = "
        f"{_percent(kept['retention'])} %; same answer {_percent(kept['agreement'])} %; "
        f"centred cosine {kept['centred_cosine']:.3f}."
    )


def _against(report: dict[str, Any], judged: str, other: str) -> str:
    """A table of what one column costs against another."""
    head = ["set", f"{other} top-1", f"{judged} top-1", "difference", "mean cosine"]
    rows = []
    for name, entry in report["sets"].items():
        cosine = f"{entry[f'cosine_{judged}_{other}']:.4f}"
        rows.append([name, *_change(entry[other]["top1"], entry[judged]["top1"]), cosine])

    mean = report["mean_top1"]
    rows.append(["mean", *_change(mean[other], mean[judged]), ""])
    return markdown.table(head, rows)


def _change(before: float, after: float) -> list[str]:
    return [_percent(before), _percent(after), f"{100 * (after - before):+.1f}"]


def _percent(share: float) -> str:
    return f"{100 * share:.1f}"
