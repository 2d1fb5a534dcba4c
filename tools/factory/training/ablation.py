"""A recipe without each of its parts in turn."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from edge_runtime.errors import DataError
from tools.factory.recipe import Recipe, TrainRecipe
from tools.lib import markdown

TERMS = ("contrastive", "condition", "alignment", "relational", "posterior")


def variants(recipe: Recipe) -> dict[str, Recipe]:
    """The whole recipe, the recipe without each of its terms, and with one member of its
    teacher."""
    present = [term for term in TERMS if getattr(recipe.losses, term, 0)]
    out = {"all terms": recipe}
    for term in present:
        out[f"without {term}"] = replace(recipe, losses=replace(recipe.losses, **{term: 0.0}))
    first, *others = recipe.teacher.members
    if others:
        out[f"teacher {first} alone"] = replace(
            recipe, teacher=replace(recipe.teacher, members=(first,))
        )
    return out


def shortened(recipe: Recipe, epochs: float) -> Recipe:
    """The recipe with its first stage alone, `epochs` long.

    The learning rate then falls to its end, which stopping early would not do.
    """
    stage = replace(recipe.train.stages[0], epochs=epochs)
    train: TrainRecipe = replace(recipe.train, stages=(stage,))
    return replace(recipe, train=train)


def last_validation(run: Path) -> dict[str, Any]:
    """The held-out scores at the end of a run. Raises DataError when nothing was held out."""
    lines = (run / "log.jsonl").read_text(encoding="utf-8").splitlines()
    entries = [json.loads(line) for line in lines]
    validations = [entry["validation"] for entry in entries if "validation" in entry]
    if not validations:
        raise DataError(f"{run}: nothing was held out", "give a source 'validation' above 0")
    return validations[-1]


def variants_table(scores: dict[str, dict[str, Any]]) -> str:
    """A row for each variant: mean top-1, conditions recognised, cosine, top-1 of each source."""
    entries = scores.values()
    sources = sorted({name for entry in entries for name in entry.get("top1", {})})
    rows = []
    for name, entry in scores.items():
        cells = [
            name,
            _percent(entry.get("mean_top1")),
            _percent(entry.get("conditions")),
            f"{entry['cosine']:.3f}",
        ]
        by_source = entry.get("top1", {})
        rows.append(cells + [_percent(by_source.get(source)) for source in sources])
    return markdown.table(["variant", "mean top-1", "conditions", "cosine", *sources], rows)


def _percent(share: float | None) -> str:
    return "" if share is None else f"{100 * share:.1f}"
