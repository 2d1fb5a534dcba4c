"""One logit scale and one threshold for a bundle, fitted on held-out training pictures."""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from edge_runtime.model.bundle import Bundle, load_bundle
from edge_runtime.system.files import write_atomically
from tools.factory.bundling.files import update_bundle
from tools.factory.calibration.fits import PRECISION, Task, fit_scale, threshold_for
from tools.factory.calibration.tasks import evaluation_tasks, held_out_tasks, known_against_unknown
from tools.factory.evaluation import metrics
from tools.factory.evaluation.embedding_cache import CachedEncoder
from tools.factory.evaluation.subject import TextRows, load_subject
from tools.factory.recipe import load_recipe
from tools.lib import markdown

CLIP_SCALE = 100.0  # the logit scale CLIP was trained to


def calibrate_bundle(
    folder: Path,
    recipe_file: Path,
    data: Path,
    *,
    cache: Path,
    evaluation: Path | None,
    write: bool,
) -> str:
    """Fit on held-out training pictures; the report in Markdown. Only `write` changes the bundle.

    Args:
        folder: the bundle.
        recipe_file: the recipe it was trained with; `data` is the folder its paths start from.
        cache: folder of kept embeddings.
        evaluation: other pictures to report on; nothing is fitted on them.
    """
    bundle = load_bundle(folder)
    recipe = load_recipe(recipe_file)
    texts = TextRows(load_subject(bundle.path, None))
    with CachedEncoder(bundle, cache) as encode:
        tasks = held_out_tasks(encode, texts, recipe, data)
        others = evaluation_tasks(encode, texts, evaluation) if evaluation else []

    scale = fit_scale(tasks)
    threshold, share, count = _fit_threshold(tasks, scale)
    fitted_on = f"{count} held-out pictures of {len(tasks)} labelled sources of {recipe.name}"
    report = _fitted(fitted_on, scale, threshold, share)
    lines = [
        f"Fitted on {fitted_on}: logit scale {scale:g} (CLIP's own is {CLIP_SCALE:g}); "
        f"threshold {threshold}, above which {PRECISION:.0%} of answers there are right.",
        "",
        *calibration_table(tasks, scale),
    ]

    files: dict[str, bytes] = {}
    if others:
        title = "Pictures that nothing was fitted on; known against unknown: every second class"
        lines += ["", f"{title} is known.", "", *calibration_table(others, scale)]
        report |= _on_other_pictures(others, scale)
        files["evaluation/reliability.png"] = reliability_picture(others, CLIP_SCALE, scale)

    if write:
        _write(bundle, lines, files, report)
        lines += ["", f"{folder}: logit scale and threshold written; {', '.join(files)}"]
    return "\n".join(lines)


def _fitted(fitted_on: str, scale: float, threshold: float, share: float) -> dict[str, Any]:
    return {
        "fitted_on": fitted_on,
        "logit_scale": scale,
        "threshold": threshold,
        "precision_wanted": PRECISION,
        "share_above_threshold": round(share, 3),
    }


def _fit_threshold(tasks: Sequence[Task], scale: float) -> tuple[float, float, int]:
    """(threshold, share of pictures above it, number of pictures) over all tasks together."""
    probabilities = [metrics.probabilities(task.cosines, scale) for task in tasks]
    pairs = list(zip(probabilities, tasks, strict=True))
    confidence = np.concatenate([rows.max(axis=1) for rows in probabilities])
    right = np.concatenate([rows.argmax(axis=1) == task.truth for rows, task in pairs])

    threshold = round(threshold_for(confidence, right, PRECISION), 2)
    return threshold, float((confidence >= threshold).mean()), len(right)


def _on_other_pictures(others: Sequence[Task], scale: float) -> dict[str, Any]:
    return {
        "calibration_error_before": {t.name: round(t.error(CLIP_SCALE), 4) for t in others},
        "calibration_error_after": {t.name: round(t.error(scale), 4) for t in others},
        "known_against_unknown_auroc": {t.name: known_against_unknown(t, scale) for t in others},
    }


def _write(
    bundle: Bundle, lines: Sequence[str], files: dict[str, bytes], report: dict[str, Any]
) -> None:
    card = bundle.path / "MODEL_CARD.md"
    if card.is_file():
        text = with_section(card.read_text(encoding="utf-8"), lines, sorted(files))
        write_atomically(card, text.encode())

    facts = {name: report[name] for name in ("logit_scale", "threshold")}
    update_bundle(bundle, files, facts | {"calibration": report})


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
            # A bin of a few pictures says nothing and draws a wild line.
            filled = count >= 5
            label = f"{task.name}, error {task.error(scale):.3f}"
            axis.plot(confidence[filled], accuracy[filled], "o-", label=label)
        axis.set(title=f"{title}: logit scale {scale:g}", xlabel="confidence")
        axis.set(ylabel="share right", xlim=(0, 1))
        axis.legend()

    figure.tight_layout()
    png = io.BytesIO()
    figure.savefig(png, dpi=100)
    pyplot.close(figure)
    return png.getvalue()


def calibration_table(tasks: Sequence[Task], scale: float) -> list[str]:
    """Markdown: calibration error before and after, and how far known stands from unknown."""
    head = [
        "set",
        "pictures",
        "top-1",
        f"error at {CLIP_SCALE:g}",
        f"at {scale:g}",
        "known/unknown AUROC: score",
        "margin",
    ]
    rows = []
    for task in tasks:
        apart = known_against_unknown(task, scale)
        rows.append(
            [
                task.name,
                str(len(task.truth)),
                f"{metrics.top_k(task.cosines, task.truth, 1):.3f}",
                f"{task.error(CLIP_SCALE):.3f}",
                f"{task.error(scale):.3f}",
                str(apart.get("probability", "")),
                str(apart.get("margin", "")),
            ]
        )

    before = float(np.mean([task.error(CLIP_SCALE) for task in tasks]))
    after = float(np.mean([task.error(scale) for task in tasks]))
    change = f"{before:.3f} -> {after:.3f} ({after / before - 1:+.0%})"
    return [*markdown.table(head, rows).splitlines(), "", f"Mean calibration error {change}."]


def with_section(card: str, lines: Sequence[str], pictures: Sequence[str]) -> str:
    """A model card with its section on calibration, in the place of an older one."""
    card = re.sub(r"\n## Calibration\n.*?(?=\n## |\Z)", "", card, flags=re.DOTALL)
    shown = "".join(f"\n![{Path(picture).stem}]({picture})\n" for picture in pictures)
    title = "\n## Calibration\n\nPrinted by `python -m tools.calibrate bundle`.\n\n"
    section = title + "\n".join(lines) + "\n" + shown

    before, heading, after = card.partition("\n## How it was made")
    return before + section + heading + after
