"""The model card of a bundle: what it is, what it is not for, how it was made, what it scores."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tools.factory.bundling.files import read_json
from tools.factory.int8.parity import parity_table
from tools.factory.recipe import Recipe
from tools.factory.training.run_folder import load_run
from tools.lib import markdown

# The same for every bundle; a recipe's description says what is special to one.
NOT_FOR = """\
- Anything where a wrong label can hurt somebody: it is a coarse filter for frames, not a safety \
function.
- People: faces, identities, age, health, mood. Nothing here was made or measured for it.
- Fine distinctions (breeds, makes, species): the text space knows the words, the small encoder \
does not see them.
- A promise about pictures unlike its training data: measure on your own with \
`python -m tools.evaluate`."""


CARD = """\
# {name} {version}

{description}

| | |
| --- | --- |
| student | {student}, {parameters:.2f} M parameters, {size} x {size} uint8 RGB |
| teacher | {teacher} |
| text space | {text_space} |
| encoder.onnx | {megabytes:.2f} MB, int8 (QDQ; QUInt8 activations, QInt8 weights per channel) |
| text bank | {bank} |

## What it is not for

{not_for}

## What it scores

Printed by `python -m tools.evaluate`; no checkpoint, threshold or setting may be chosen on these \
pictures.{disclosure}

{scores}

## float32 against int8

Printed by `python -m tools.quantize`.

{parity}

## How it was made

{story}

Recipe (also in manifest.json): seed {seed}, digest {digest}.

{data}

## Licences

{licences}
"""
LOSSES = ("contrastive", "condition", "alignment", "relational", "posterior", "triplet")
SHOWN_VALIDATIONS = 8  # rows of the table, approximately; a long run has hundreds


def model_card(folder: Path, run: Path, scores: str) -> str:
    """MODEL_CARD.md: what it is, what it is not for, how it was made, what it scores."""
    recipe, student, text_space = load_run(run)
    manifest = read_json(folder / "manifest.json", "")
    parity = read_json(run / "quantize.json", f"python -m tools.quantize {run}")
    bank = read_json(folder / "text_bank.json", "")
    usual = "A small image encoder that answers in the text space of a CLIP model."
    sources = [[source.name, source.kind, f"{source.validation:.0%}"] for source in recipe.data]
    licences = "\n".join(f"- {licence}" for licence in recipe.licences)
    return CARD.format(
        name=recipe.name,
        version=recipe.version,
        description=recipe.description or usual,
        student=recipe.student.name,
        parameters=sum(p.numel() for p in student.parameters()) / 1e6,
        size=recipe.input.size,
        teacher=_teacher(recipe),
        text_space=text_space,
        megabytes=manifest["files"]["encoder.onnx"]["size"] / 1e6,
        bank=provenance(bank),
        not_for=NOT_FOR,
        disclosure=f"\n{recipe.disclosure}" if recipe.disclosure else "",
        scores=scores or "Not evaluated yet: run tools.bundle with --evaluate.",
        parity=parity_table(parity),
        story=training_story(recipe, run),
        seed=recipe.seed,
        digest=recipe.digest(),
        data=markdown.table(["data", "kind", "held out"], sources),
        licences=licences or "- none stated in the recipe",
    )


def provenance(bank: dict[str, Any]) -> str:
    """How many rows of text_bank.json are exact, taught by pictures, and approximate."""
    names = len(bank["names"])
    approximate = len(bank["approximate"])
    taught = len(bank.get("taught", ()))
    exact = names - approximate - taught
    moved = f", {taught} taught by pictures" if taught else ""
    return f"{names} names, {exact} exact{moved}, {approximate} approximate"


def _teacher(recipe: Recipe) -> str:
    members = recipe.teacher.members if recipe.teacher.name == "offline" else ()
    return f"offline: {', '.join(members)}" if members else recipe.teacher.name


def training_story(recipe: Recipe, run: Path) -> str:
    """Steps, stages and the held-out scores of each validation, from the log."""
    log = run / "log.jsonl"
    lines = log.read_text(encoding="utf-8").splitlines() if log.exists() else []
    entries = [json.loads(line) for line in lines]
    steps = entries[-1]["step"] if entries else 0
    story = [
        f"{_stages(recipe)}, batch {recipe.train.batch}, {steps} steps. "
        f"Loss weights: {_losses(recipe)}."
    ]

    interpolation = run / "interpolation.json"
    if interpolation.exists():
        share = json.loads(interpolation.read_text(encoding="utf-8"))["share"]
        story.append(
            f"The shipped weights lie {share:.0%} of the way from the start to the trained ones "
            "(WiSE-FT, `python -m tools.interpolate`); the table below is of the trained ones."
        )
    rank = recipe.student.head.rank
    if rank:
        story.append(f"Its head's linear layer was then factored to rank {rank} (`tools.shrink`).")

    validations = [entry for entry in entries if "validation" in entry]
    if validations:
        title = (
            "Held-out training pictures (never the evaluation sets), printed by "
            "`python -m tools.distill`:"
        )
        story += ["", title, "", _validations_table(validations)]
    return "\n".join(story)


def _stages(recipe: Recipe) -> str:
    usual = recipe.stem_size if recipe.targets.stem else recipe.input.size
    stages = recipe.train.stages
    return "; ".join(f"{stage.epochs:g} epochs at {stage.size or usual} px" for stage in stages)


def _losses(recipe: Recipe) -> str:
    weights = asdict(recipe.losses).items()
    used = [f"{name} {weight:g}" for name, weight in weights if name in LOSSES and weight]
    return ", ".join(used)


def _validations_table(validations: list[dict[str, Any]]) -> str:
    """About SHOWN_VALIDATIONS of them, evenly spread, and always the last one."""
    shown = validations[:: max(1, len(validations) // SHOWN_VALIDATIONS)]
    if shown[-1] is not validations[-1]:
        shown.append(validations[-1])

    rows = []
    for entry in shown:
        scores = entry["validation"]
        keys = ("mean_top1", "conditions", "cosine")
        cells = [f"{scores[key]:.3f}" if key in scores else "" for key in keys]
        rows.append([str(entry["step"]), *cells])
    head = ["step", "mean top-1", "conditions told apart", "cosine to teacher"]
    return markdown.table(head, rows)
