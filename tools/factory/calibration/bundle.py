"""One logit scale and one threshold for a bundle, fitted on held-out training pictures."""

from __future__ import annotations

import argparse
import io
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from edge_runtime.files import write_atomically
from edge_runtime.model.bundle import load_bundle
from tools.factory.bundling.files import update_bundle
from tools.factory.calibration.fits import Task, fit_scale, threshold_for
from tools.factory.calibration.tasks import evaluation_tasks, held_out_tasks, known_against_unknown
from tools.factory.evaluation import metrics
from tools.factory.evaluation.embedding_cache import CachedEncoder
from tools.factory.evaluation.subject import TextRows, load_subject
from tools.factory.recipe import load_recipe

CLIP_SCALE = 100.0  # the logit scale CLIP was trained to
PRECISION = 0.7  # a label that is on should be right so often, on held-out training pictures


def reliability_picture(tasks: Sequence[Task], before: float, after: float) -> bytes:
    """PNG: confidence against accuracy of every task, before and after, side by side."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, 2, figsize=(10, 5), sharey=True)
    for axis, scale, title in zip(axes, (before, after), ("before", "after"), strict=True):
        axis.plot([0, 1], [0, 1], "--", color="grey")
        for task in tasks:
            probability = metrics.probabilities(task.cosines, scale)
            confidence, accuracy, count = metrics.reliability(probability, task.truth)
            filled = count >= 5
            error = task.error(scale)
            axis.plot(
                confidence[filled], accuracy[filled], "o-", label=f"{task.name}, error {error:.3f}"
            )
        axis.set(
            title=f"{title}: logit scale {scale:g}",
            xlabel="confidence",
            ylabel="share right",
            xlim=(0, 1),
        )
        axis.legend()
    figure.tight_layout()
    png = io.BytesIO()
    figure.savefig(png, dpi=100)
    pyplot.close(figure)
    return png.getvalue()


def calibrate_bundle(options: argparse.Namespace) -> str:
    """Fit on held-out training pictures; report in Markdown; write only what --write asks for."""
    bundle = load_bundle(options.bundle)
    recipe = load_recipe(options.recipe)
    texts = TextRows(load_subject(bundle.path, None))
    with CachedEncoder(bundle, options.cache) as encode:
        tasks = held_out_tasks(encode, texts, recipe, options.data)
        others = evaluation_tasks(encode, texts, options.evaluate) if options.evaluate else []
    scale = fit_scale(tasks)
    probabilities = [metrics.probabilities(task.cosines, scale) for task in tasks]
    confidence = np.concatenate([p.max(axis=1) for p in probabilities])
    right = np.concatenate(
        [p.argmax(axis=1) == t.truth for p, t in zip(probabilities, tasks, strict=True)]
    )
    threshold = round(threshold_for(confidence, right, PRECISION), 2)
    fitted_on = f"{len(right)} held-out pictures of {len(tasks)} labelled sources of {recipe.name}"
    report: dict[str, Any] = {
        "fitted_on": fitted_on,
        "logit_scale": scale,
        "threshold": threshold,
        "precision_wanted": PRECISION,
        "share_above_threshold": round(float((confidence >= threshold).mean()), 3),
    }
    lines = [
        f"Fitted on {fitted_on}: logit scale {scale:g} (CLIP's own is {CLIP_SCALE:g}); threshold {threshold}, above "
        f"which {PRECISION:.0%} of answers there are right.",
        "",
        *calibration_table(tasks, scale),
    ]
    files: dict[str, bytes] = {}
    if others:
        lines += [
            "",
            "Pictures that nothing was fitted on; known against unknown: every second class is known.",
            "",
        ]
        lines += calibration_table(others, scale)
        report |= {
            "calibration_error_before": {
                task.name: round(task.error(CLIP_SCALE), 4) for task in others
            },
            "calibration_error_after": {task.name: round(task.error(scale), 4) for task in others},
            "known_against_unknown_auroc": {
                task.name: known_against_unknown(task, scale) for task in others
            },
        }
        files["evaluation/reliability.png"] = reliability_picture(others, CLIP_SCALE, scale)
    if options.write:
        card = options.bundle / "MODEL_CARD.md"
        if card.is_file():
            write_atomically(
                card, with_section(card.read_text(encoding="utf-8"), lines, sorted(files)).encode()
            )
        update_bundle(
            bundle, files, {"logit_scale": scale, "threshold": threshold, "calibration": report}
        )
        lines += ["", f"{options.bundle}: logit scale and threshold written; {', '.join(files)}"]
    return "\n".join(lines)


def calibration_table(tasks: Sequence[Task], scale: float) -> list[str]:
    """Markdown: calibration error before and after of each task, and how far known stands from
    unknown."""
    lines = [
        f"| set | pictures | top-1 | error at {CLIP_SCALE:g} | at {scale:g} | known/unknown AUROC: score | margin |",
        "| --- " * 7 + "|",
    ]
    for task in tasks:
        top1 = metrics.top_k(task.cosines, task.truth, 1)
        apart = known_against_unknown(task, scale)
        lines.append(
            f"| {task.name} | {len(task.truth)} | {top1:.3f} | {task.error(CLIP_SCALE):.3f} | {task.error(scale):.3f} "
            f"| {apart.get('probability', '')} | {apart.get('margin', '')} |"
        )
    before, after = (float(np.mean([task.error(s) for task in tasks])) for s in (CLIP_SCALE, scale))
    return [
        *lines,
        "",
        f"Mean calibration error {before:.3f} -> {after:.3f} ({after / before - 1:+.0%}).",
    ]


def with_section(card: str, lines: Sequence[str], pictures: Sequence[str]) -> str:
    """A model card with its section on calibration, in the place of an older one."""
    card = re.sub(r"\n## Calibration\n.*?(?=\n## |\Z)", "", card, flags=re.DOTALL)
    shown = "".join(f"\n![{Path(picture).stem}]({picture})\n" for picture in pictures)
    section = (
        "\n## Calibration\n\nPrinted by `python -m tools.calibrate bundle`.\n\n"
        + "\n".join(lines)
        + "\n"
        + shown
    )
    before, heading, after = card.partition("\n## How it was made")
    return before + section + heading + after
