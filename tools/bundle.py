"""Assemble a bundle from a run: `python -m tools.bundle RUN --bank DIR --output models/NAME`.

Takes RUN/encoder.onnx (tools.quantize), the text bank in DIR (tools.prompts) and label sets; writes manifest.json
with the sha256 of every file and MODEL_CARD.md from recipe, log, parity report and evaluation. The bundle is
opened with the runtime's own loader, and every label set compiled, before it replaces what stood at --output.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import shutil
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

from edge_runtime.errors import ConfigError, DataError, EdgeLabelError, NoInputError
from edge_runtime.model.bundle import SCHEMA, load_bundle
from edge_runtime.model.encoder import Encoder
from edge_runtime.model.labels import TextBank, compile_labels, load_label_set
from tools import evaluate, quantize
from tools.export import INPUT, OUTPUT
from tools.factory.recipe import Recipe
from tools.factory.run import load_run
from tools.factory.students import PIXEL_OFFSET, PIXEL_SCALE
from tools.prompts import RECIPES, TEMPLATES

MINIMUM_RUNTIME = "0.1.0"
# Written once for every bundle; what is special to one stands in its recipe's description.
NOT_FOR = """\
- Anything where a wrong label can hurt somebody: it is a coarse filter for frames, not a safety function.
- People: faces, identities, age, health, mood. Nothing here was made or measured for it.
- Fine distinctions (breeds, makes, species): the text space knows the words, the small encoder does not see them.
- A promise about pictures unlike its training data: measure on your own with `python -m tools.evaluate`."""


def read_json(path: Path, needed_by: str) -> Any:
    """Raises NoInputError with the command that makes the file, DataError when it is not JSON."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise NoInputError(f"{path}: missing; first: {needed_by}") from None
    except (ValueError, OSError) as error:
        raise DataError(f"{path}: cannot be read ({error})") from None


def assemble(run: Path, bank: Path, labels: list[Path], scratch: Path, logit_scale: float) -> None:
    """All files of the bundle but MODEL_CARD.md into `scratch`. Raises ConfigError when text spaces differ."""
    recipe, student, text_space = load_run(run)
    encoder = run / "encoder.onnx"
    parity = read_json(run / "quantize.json", f"python -m tools.quantize {run}")
    if not encoder.is_file():
        raise NoInputError(f"{encoder}: missing; first: python -m tools.quantize {run}")
    meta = read_json(bank / "text_bank.json", f"python -m tools.prompts --out {bank}")
    if meta["text_space"] != text_space:
        raise ConfigError(
            f"{bank}: a text bank of {meta['text_space']}, the student speaks {text_space}; "
            f"make one: python -m tools.prompts --out DIR --teacher {text_space}"
        )
    (scratch / "labels").mkdir()
    shutil.copy(encoder, scratch / "encoder.onnx")
    for name in ("text_bank.npy", "text_bank.json"):
        shutil.copy(bank / name, scratch / name)
    for path in labels:
        shutil.copy(path, scratch / "labels" / path.name)
    dim = next(reversed(list(student.head.parameters()))).shape[0]
    manifest = {
        "schema": SCHEMA,
        "name": recipe.name,
        "version": recipe.version,
        "files": {},
        "input": {
            "name": INPUT,
            "layout": "NHWC",
            "dtype": "uint8",
            "size": [recipe.input.size] * 2,
            "mean": [PIXEL_OFFSET / 255] * 3,
            "std": [PIXEL_SCALE / 255] * 3,
            "resize": recipe.input.resize,
            "modalities": ["rgb"],
        },
        "embedding": {"name": OUTPUT, "dim": dim},
        "logit_scale": logit_scale,
        "text_space": text_space,
        "templates": list(TEMPLATES),
        "int8": {
            "activations": "QUInt8",
            "weights": "QInt8 per channel",
            "format": "QDQ",
            "calibration": f"{parity['kept']}, {parity['calibration_pictures']} training pictures",
            "cosine_to_fp32": parity["onnx_fp32_to_int8"][parity["kept"]]["mean"],
        },
        "teacher": recipe.teacher.name,
        "student": recipe.student.name,
        "data": [source.name for source in recipe.data],
        "licences": list(recipe.licences),
        "recipe": asdict(recipe),
        "evaluation": {},
        "a72": read_json(run / "a72.json", "") if (run / "a72.json").exists() else {},
        "minimum_runtime": MINIMUM_RUNTIME,
    }
    write_manifest(scratch, manifest)


def write_manifest(folder: Path, manifest: dict[str, Any]) -> None:
    """manifest.json with size and sha256 of every other file but the card."""
    manifest["files"] = {}
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        name = path.relative_to(folder).as_posix()
        if name not in ("manifest.json", "MODEL_CARD.md"):
            data = path.read_bytes()
            manifest["files"][name] = {"sha256": hashlib.sha256(data).hexdigest(), "size": len(data)}
    (folder / "manifest.json").write_text(json.dumps(manifest, indent=1) + "\n", encoding="utf-8")


def check(folder: Path) -> None:
    """Open the bundle as the runtime does: hashes, session, bank, every label set. Raises EdgeLabelError."""
    bundle = load_bundle(folder)
    bundle.verify()
    Encoder(bundle)
    bank = TextBank.from_bundle(bundle)
    for name in bundle.label_sets():
        compile_labels(load_label_set(name, bundle), bundle, bank)


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

{quantize.table(parity)}

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
        if name in ("contrastive", "condition", "alignment", "relational", "posterior", "triplet") and weight
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
        story.append(f"Its head's linear layer was then factored to rank {recipe.student.head.rank} (`tools.shrink`).")
    if validations:
        story += ["", "Held-out training pictures (never the evaluation sets):", ""]
        story += ["| step | mean top-1 | conditions told apart | cosine to teacher |", "| --- | --- | --- | --- |"]
        shown = validations[:: max(1, len(validations) // 8)]
        shown += [] if shown[-1] is validations[-1] else [validations[-1]]
        for entry in shown:
            v = entry["validation"]
            cells = [str(entry["step"])]
            cells += [f"{v[key]:.3f}" if key in v else "" for key in ("mean_top1", "conditions", "cosine")]
            story.append("| " + " | ".join(cells) + " |")
    return "\n".join(story)


def replace_folder(new: Path, output: Path) -> None:
    """Put `new` (beside it on the same disk) in the place of `output`; what was there goes only when all is well."""
    old = output.with_name(f".{output.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    if output.exists():
        output.rename(old)
    new.rename(output)
    shutil.rmtree(old, ignore_errors=True)


def main(argv: list[str] | None = None) -> int:
    """Run the verb; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tools.bundle", description=__doc__.split("\n\n")[0])
    parser.add_argument("run", type=Path, help="a folder of tools.distill, exported and quantised")
    parser.add_argument("--bank", type=Path, required=True, help="folder with text_bank.npy and .json (tools.prompts)")
    parser.add_argument("--labels", type=Path, nargs="*", default=sorted((RECIPES / "labels").glob("*.yaml")))
    parser.add_argument("--logit-scale", type=float, default=100.0, help="what cosines are multiplied by (100)")
    parser.add_argument(
        "--evaluate", type=Path, metavar="DATA", help="score it on DATA (see tools.evaluate) for the card"
    )
    parser.add_argument("--output", type=Path, required=True, help="the bundle's folder, e.g. models/edge-clip")
    args = parser.parse_args(argv)
    try:
        make(args.run, args.bank, args.labels, args.output, args.logit_scale, args.evaluate)
    except EdgeLabelError as error:
        print(f"bundle: {error}", file=sys.stderr)
        return error.exit_code
    size = sum(p.stat().st_size for p in args.output.rglob("*") if p.is_file())
    print(f"{args.output}: {size / 1e6:.1f} MB in all, opened and verified")
    return 0


def make(run: Path, bank: Path, labels: list[Path], output: Path, logit_scale: float, data: Path | None) -> None:
    """Assemble, check, score, describe, and only then replace `output`."""
    output.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=output.parent, prefix=f".{output.name}.") as parent:
        scratch = Path(parent) / "bundle"
        scratch.mkdir()
        assemble(run, bank, labels, scratch, logit_scale)
        check(scratch)
        scores = ""
        if data:
            subject = evaluate.load_subject(scratch, run / "encoder.fp32.onnx")
            fitting = evaluate.PAIRS.is_file() and subject.text_space == evaluate.CLIP_B32
            with evaluate.open_data(data) as root:
                sets = evaluate.labelled_sets(root, "a photo of a {}", ())
                report = evaluate.evaluate(subject, sets, evaluate.PAIRS if fitting else None, scratch / "evaluation")
            scores = evaluate.table(report)
            pictures = sorted(p.name for p in (scratch / "evaluation").glob("*.png"))
            scores += "\n\n" + "\n".join(f"![{name}](evaluation/{name})" for name in pictures)
            manifest = read_json(scratch / "manifest.json", "")
            write_manifest(scratch, manifest | {"evaluation": report})
        (scratch / "MODEL_CARD.md").write_text(model_card(scratch, run, scores), encoding="utf-8")
        check(scratch)
        replace_folder(scratch, output)


if __name__ == "__main__":
    sys.exit(main())
