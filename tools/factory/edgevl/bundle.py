"""A bundle with the encoder that EdgeVL trained."""

from __future__ import annotations

import csv
import json
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

from edge_runtime.model.bundle import Bundle, load_bundle
from tools.factory.bundling.files import check_bundle, replace_folder, write_manifest
from tools.factory.edgevl.recipe import EdgeVLRecipe
from tools.factory.edgevl.report import Figure, edgevl_table

CARD = """# {id}

The encoder of {base}, taught infrared and depth by EdgeVL (`python -m tools.edgevl`): one \
encoder, int8, for all three.
Text bank, label sets, licences and what it is not for are those of {base}: see that bundle's card.

- Pairs it was trained on: {seen}.
- Colour pictures made to look infrared: {colour}.

That is little. A sensor or scenes unlike these may be worse served than by a colour bundle: \
measure on your own. Labels
about light, weather and the lens mean nothing in infrared and depth.

## What it scores

{table}

{disclosure}
"""


def ship(base: Path, target: Path, output: Path, recipe: EdgeVLRecipe) -> None:
    """Write a bundle with the text side of `base` and the encoder in `output`.

    It is checked before it replaces the folder `target`.
    """
    report = json.loads((output / "edgevl.json").read_text())
    base_bundle = load_bundle(base)
    base_bundle.verify()

    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{target.name}.") as parent:
        scratch = Path(parent) / "bundle"
        _copy_text_side(base_bundle, scratch)
        (scratch / "encoder.onnx").write_bytes((output / "encoder.onnx").read_bytes())
        write_manifest(scratch, _manifest(base_bundle, recipe, report))
        card = _card(base_bundle, recipe, report, output)
        (scratch / "MODEL_CARD.md").write_text(card, encoding="utf-8")
        check_bundle(scratch)
        replace_folder(scratch, target)


def _copy_text_side(base: Bundle, scratch: Path) -> None:
    """All files but the encoder and what was measured on it."""
    for name in base.manifest.files:
        if name != "encoder.onnx" and not name.startswith("evaluation/"):
            (scratch / name).parent.mkdir(parents=True, exist_ok=True)
            (scratch / name).write_bytes(base.read(name))


def _manifest(base: Bundle, recipe: EdgeVLRecipe, report: dict[str, Any]) -> dict[str, Any]:
    # What was measured on the base's encoder does not hold for this one.
    raw = _without(base.manifest.raw, "calibration", "a72", "recipe")
    modalities = sorted({pair.modality for pair in recipe.pairs}, reverse=True)
    own_data = [f"{pair.name} ({pair.modality})" for pair in recipe.pairs]
    int8 = {
        "calibration": "all modalities, quantisation-aware",
        "cosine_to_torch": report[Figure.PARITY]["mean"],
    }
    return raw | {
        "name": recipe.name,
        "version": recipe.version,
        "input": raw["input"] | {"modalities": ["rgb", *modalities]},
        "teacher": f"{base.manifest.id}, on the colour half of each pair",
        "data": [*raw.get("data", []), *own_data],
        "int8": _without(raw["int8"], "cosine_to_fp32") | int8,
        "recipe": asdict(recipe),
        "evaluation": {"edgevl": report["rows"]},
    }


def _without(facts: dict[str, Any], *names: str) -> dict[str, Any]:
    return {name: value for name, value in facts.items() if name not in names}


def _card(base: Bundle, recipe: EdgeVLRecipe, report: dict[str, Any], output: Path) -> str:
    pairs = [f"{_trained_on(output, pair.name)} ({pair.modality})" for pair in recipe.pairs]
    colour = [_trained_on(output, source.name) for source in recipe.colour]
    return CARD.format(
        id=f"{recipe.name} {recipe.version}",
        base=base.manifest.id,
        seen=", ".join(pairs),
        colour=", ".join(colour) or "none",
        disclosure=recipe.disclosure,
        table=edgevl_table(report),
    )


def _trained_on(output: Path, name: str) -> str:
    with (output / f"{name}.csv").open(encoding="utf-8", newline="") as file:
        count = sum(row["split"] == "train" for row in csv.DictReader(file))
    return f"{count} of {name}"
