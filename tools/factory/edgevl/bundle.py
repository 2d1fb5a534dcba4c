"""A bundle with the encoder that EdgeVL trained."""

from __future__ import annotations

import csv
import json
import tempfile
from dataclasses import asdict
from pathlib import Path

from edge_runtime.model.bundle import load_bundle
from tools.factory.bundling.files import check_bundle, replace_folder, write_manifest
from tools.factory.edgevl.recipe import EdgeVLRecipe
from tools.factory.edgevl.report import edgevl_table


def ship(base: Path, target: Path, output: Path, recipe: EdgeVLRecipe) -> None:
    """A bundle with the text bank and label sets of `base` and the encoder of `output`; checked,
    then put in place."""
    report = json.loads((output / "edgevl.json").read_text())
    found = load_bundle(base)
    found.verify()
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{target.name}.") as parent:
        scratch = Path(parent) / "bundle"
        for name in found.manifest.files:
            if name != "encoder.onnx" and not name.startswith("evaluation/"):
                (scratch / name).parent.mkdir(parents=True, exist_ok=True)
                (scratch / name).write_bytes(found.read(name))
        (scratch / "encoder.onnx").write_bytes((output / "encoder.onnx").read_bytes())
        # What was measured on the base's encoder does not hold for this one.
        raw = {
            k: v for k, v in found.manifest.raw.items() if k not in ("calibration", "a72", "recipe")
        }
        modalities = ["rgb", *sorted({pair.modality for pair in recipe.pairs}, reverse=True)]
        parity = report["torch fake-quantised to ONNX int8, cosine"]
        manifest = raw | {
            "name": recipe.name,
            "version": recipe.version,
            "input": raw["input"] | {"modalities": modalities},
            "teacher": f"{found.manifest.id}, on the colour half of each pair",
            "data": [
                *raw.get("data", []),
                *(f"{pair.name} ({pair.modality})" for pair in recipe.pairs),
            ],
            "int8": {k: v for k, v in raw["int8"].items() if k != "cosine_to_fp32"}
            | {
                "calibration": "all modalities, quantisation-aware",
                "cosine_to_torch": parity["mean"],
            },
            "recipe": asdict(recipe),
            "evaluation": {"edgevl": report["rows"]},
        }
        write_manifest(scratch, manifest)
        card = CARD.format(
            id=f"{recipe.name} {recipe.version}",
            base=found.manifest.id,
            seen=", ".join(
                f"{_trained_on(output, pair.name)} ({pair.modality})" for pair in recipe.pairs
            ),
            colour=", ".join(_trained_on(output, source.name) for source in recipe.colour)
            or "none",
            disclosure=recipe.disclosure,
            table=edgevl_table(report),
        )
        (scratch / "MODEL_CARD.md").write_text(card, encoding="utf-8")
        check_bundle(scratch)
        replace_folder(scratch, target)


def _trained_on(output: Path, name: str) -> str:
    with (output / f"{name}.csv").open(encoding="utf-8", newline="") as file:
        count = sum(row["split"] == "train" for row in csv.DictReader(file))
    return f"{count} of {name}"


CARD = """# {id}

The encoder of {base}, taught infrared and depth by EdgeVL (`python -m tools.edgevl`): one encoder, int8, for all three.
Text bank, label sets, licences and what it is not for are those of {base}: see that bundle's card.

- Pairs it was trained on: {seen}.
- Colour pictures made to look infrared: {colour}.

That is little. A sensor or scenes unlike these may be worse served than by a colour bundle: measure on your own. Labels
about light, weather and the lens mean nothing in infrared and depth.

## What it scores

{table}

{disclosure}
"""
