"""What each part of a recipe is worth: `python -m tools.ablate RECIPE --data DIR --output DIR --epochs 1`.

Distils the recipe once as it is, once without each of its terms (weight 0), and where the teacher has several members
once with the first alone; every time from the same start, on the same pictures in the same order, for the same number
of epochs; then prints the held-out scores side by side.
Pictures and teacher targets are computed once and shared. A run that is already there is not made again.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from edge_runtime.errors import DataError, EdgeLabelError
from edge_runtime.files import write_atomically
from tools.distill import distill
from tools.factory.recipe import Recipe, TrainRecipe, load_recipe

TERMS = ("contrastive", "condition", "alignment", "relational", "posterior")


def variants(recipe: Recipe) -> dict[str, Recipe]:
    """The recipe whole, then without each term it has, then with one member of its teacher."""
    present = [term for term in TERMS if getattr(recipe.losses, term, 0)]
    out = {"all terms": recipe}
    for term in present:
        out[f"without {term}"] = replace(recipe, losses=replace(recipe.losses, **{term: 0.0}))
    first, *others = recipe.teacher.members
    if others:
        out[f"teacher {first} alone"] = replace(recipe, teacher=replace(recipe.teacher, members=(first,)))
    return out


def shortened(recipe: Recipe, epochs: float) -> Recipe:
    """The recipe with its first stage only, so many epochs long: the schedule is then a whole one."""
    train: TrainRecipe = replace(recipe.train, stages=(replace(recipe.train.stages[0], epochs=epochs),))
    return replace(recipe, train=train)


def last_validation(run: Path) -> dict[str, Any]:
    """The held-out scores at the end of a run. Raises DataError when nothing was held out."""
    lines = (run / "log.jsonl").read_text(encoding="utf-8").splitlines()
    found = [entry["validation"] for entry in map(json.loads, lines) if "validation" in entry]
    if not found:
        raise DataError(f"{run}: nothing was held out; give a source 'validation' above 0")
    return found[-1]


def table(scores: dict[str, dict[str, Any]]) -> str:
    """One row a variant: mean top-1 over sources, conditions told apart, cosine, and top-1 of each source."""
    sources = sorted({name for entry in scores.values() for name in entry.get("top1", {})})
    head = ["variant", "mean top-1", "conditions", "cosine", *sources]
    lines = ["| " + " | ".join(head) + " |", "| " + " | ".join(["---"] * len(head)) + " |"]
    for name, entry in scores.items():
        cells = [name, _percent(entry.get("mean_top1")), _percent(entry.get("conditions")), f"{entry['cosine']:.3f}"]
        cells += [_percent(entry.get("top1", {}).get(source)) for source in sources]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _percent(share: float | None) -> str:
    return "" if share is None else f"{100 * share:.1f}"


def main(argv: list[str] | None = None) -> int:
    """Run the verb; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tools.ablate", description=__doc__.split("\n\n")[0])
    parser.add_argument("recipe", type=Path, help="a recipe, e.g. tools/recipes/edge-clip.yaml")
    parser.add_argument("--data", type=Path, default=Path(), help="folder the recipe's picture paths are relative to")
    parser.add_argument("--output", type=Path, required=True, help="folder for the runs, ablation.json and ablation.md")
    parser.add_argument("--cache", type=Path, help="folder with pictures and targets of an earlier run (OUTPUT/cache)")
    parser.add_argument("--epochs", type=float, default=1.0, help="how long each variant is trained (1)")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu", help="cpu or cuda")
    parser.add_argument("--quiet", action="store_true", help="no progress bars")
    args = parser.parse_args(argv)
    try:
        recipe = shortened(load_recipe(args.recipe), args.epochs)
        scores = {}
        for name, variant in variants(recipe).items():
            run = args.output / name.replace(" ", "-")
            started = (run / "checkpoint.pt").exists()
            distill(
                variant,
                data=args.data,
                output=run,
                cache=args.cache or args.output / "cache",
                device=torch.device(args.device),
                resume=started,
                quiet=args.quiet,
            )
            scores[name] = last_validation(run)
        write_atomically(args.output / "ablation.json", json.dumps(scores, indent=1).encode())
        write_atomically(args.output / "ablation.md", (table(scores) + "\n").encode())
    except EdgeLabelError as error:
        print(f"ablate: {error}", file=sys.stderr)
        return error.exit_code
    print(table(scores))
    return 0


if __name__ == "__main__":
    sys.exit(main())
