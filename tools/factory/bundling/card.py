"""The model card of a bundle: what it is, what it is not for, how it was made, what it scores."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

from tools.factory.bundling.files import read_json
from tools.factory.int8.parity import parity_table
from tools.factory.recipe import Recipe
from tools.factory.training.run_folder import load_run

# Written once for every bundle; what is special to one stands in its recipe's description.
NOT_FOR = """\
- Anything where a wrong label can hurt somebody: it is a coarse filter for frames, not a safety function.
- People: faces, identities, age, health, mood. Nothing here was made or measured for it.
- Fine distinctions (breeds, makes, species): the text space knows the words, the small encoder does not see them.
- A promise about pictures unlike its training data: measure on your own with `python -m tools.evaluate`."""


def model_card(folder: Path, run: Path, scores: str) -> str:
    """MODEL_CARD.md: what it is, what it is not for, how it was made, what it scores."""
    recipe, student, text_space = load_run(run)
    manifest = read_json(folder / "manifest.json", "")
    parity = read_json(run / "quantize.json", f"python -m tools.quantize {run}")
    meta = read_json(folder / "text_bank.json", "")
    parameters = sum(p.numel() for p in student.parameters()) / 1e6
    megabytes = manifest["files"]["encoder.onnx"]["size"] / 1e6
    exact = len(meta["names"]) - len(meta["approximate"])
    members = recipe.teacher.members if recipe.teacher.name == "offline" else ()
    teacher = f"offline: {', '.join(members)}" if members else recipe.teacher.name
    disclosure = f"\n{recipe.disclosure}" if recipe.disclosure else ""
    return f"""# {recipe.name} {recipe.version}

{recipe.description or "A small image encoder that answers in the text space of a CLIP model."}

| | |
| --- | --- |
| student | {recipe.student.name}, {parameters:.2f} M parameters, {recipe.input.size} x {recipe.input.size} uint8 RGB |
| teacher | {teacher} |
| text space | {text_space} |
| encoder.onnx | {megabytes:.2f} MB, int8 (QDQ; QUInt8 activations, QInt8 weights per channel) |
| text bank | {len(meta["names"])} names, {exact} exact, {len(meta["approximate"])} approximate |

## What it is not for

{NOT_FOR}

## What it scores

Printed by `python -m tools.evaluate`; no checkpoint, threshold or setting may be chosen on these pictures.{disclosure}

{scores or "Not evaluated yet: run tools.bundle with --evaluate."}

## float32 against int8

{parity_table(parity)}

## How it was made

{training_story(recipe, run)}

Recipe (also in manifest.json): seed {recipe.seed}, digest {recipe.digest()}.

| data | kind | held out |
| --- | --- | --- |
{chr(10).join(f"| {source.name} | {source.kind} | {source.validation:.0%} |" for source in recipe.data)}

## Licences

{chr(10).join(f"- {licence}" for licence in recipe.licences) or "- none stated in the recipe"}
"""


def training_story(recipe: Recipe, run: Path) -> str:
    """Steps, stages and the held-out scores of each validation, from the log."""
    log = run / "log.jsonl"
    lines = log.read_text(encoding="utf-8").splitlines() if log.exists() else []
    entries = [json.loads(line) for line in lines]
    validations = [entry for entry in entries if "validation" in entry]
    stages = "; ".join(
        f"{s.epochs:g} epochs at {s.size or (recipe.stem_size if recipe.targets.stem else recipe.input.size)} px"
        for s in recipe.train.stages
    )
    losses = ", ".join(
        f"{name} {weight:g}"
        for name, weight in asdict(recipe.losses).items()
        if name in ("contrastive", "condition", "alignment", "relational", "posterior", "triplet")
        and weight
    )
    steps = entries[-1]["step"] if entries else 0
    story = [f"{stages}, batch {recipe.train.batch}, {steps} steps. Loss weights: {losses}."]
    if (run / "interpolation.json").exists():
        share = json.loads((run / "interpolation.json").read_text(encoding="utf-8"))["share"]
        story.append(
            f"The shipped weights lie {share:.0%} of the way from the start to the trained ones (WiSE-FT, "
            "`python -m tools.interpolate`); the table below is of the trained ones."
        )
    if recipe.student.head.rank:
        story.append(
            f"Its head's linear layer was then factored to rank {recipe.student.head.rank} (`tools.shrink`)."
        )
    if validations:
        story += ["", "Held-out training pictures (never the evaluation sets):", ""]
        story += [
            "| step | mean top-1 | conditions told apart | cosine to teacher |",
            "| --- | --- | --- | --- |",
        ]
        shown = validations[:: max(1, len(validations) // 8)]
        shown += [] if shown[-1] is validations[-1] else [validations[-1]]
        for entry in shown:
            v = entry["validation"]
            cells = [str(entry["step"])]
            cells += [
                f"{v[key]:.3f}" if key in v else "" for key in ("mean_top1", "conditions", "cosine")
            ]
            story.append("| " + " | ".join(cells) + " |")
    return "\n".join(story)
