"""A run, a text bank and label sets -> a bundle."""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

from edge_runtime.errors import ConfigError, NoInputError
from edge_runtime.model.manifest import SCHEMA
from tools.factory.bundling.card import model_card
from tools.factory.bundling.files import (
    check_bundle,
    read_json,
    refuse_other_folder,
    replace_folder,
    write_manifest,
)
from tools.factory.bundling.text_bank import TEMPLATES
from tools.factory.evaluation.labelled import labelled_sets, open_data
from tools.factory.evaluation.report import score_table
from tools.factory.evaluation.scores import PAIRS, evaluate
from tools.factory.evaluation.subject import load_subject
from tools.factory.int8.export import INPUT, OUTPUT
from tools.factory.students.student import PIXEL_OFFSET, PIXEL_SCALE
from tools.factory.teachers.teacher import CLIP_B32
from tools.factory.training.run_folder import load_run

MINIMUM_RUNTIME = "0.1.0"


def make_bundle(
    run: Path, bank: Path, labels: list[Path], output: Path, logit_scale: float, data: Path | None
) -> None:
    """Assemble, check, score and describe the bundle in a scratch folder, then replace `output`.

    Raises DataError where `output` is a folder but not a bundle.
    """
    refuse_other_folder(output)
    output.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=output.parent, prefix=f".{output.name}.") as parent:
        scratch = Path(parent) / "bundle"
        scratch.mkdir()
        assemble(run, bank, labels, scratch, logit_scale)
        check_bundle(scratch)
        scores = score_bundle(scratch, run / "encoder.fp32.onnx", data) if data else ""
        card = model_card(scratch, run, scores)
        (scratch / "MODEL_CARD.md").write_text(card, encoding="utf-8")
        check_bundle(scratch)
        replace_folder(scratch, output)


def assemble(run: Path, bank: Path, labels: list[Path], scratch: Path, logit_scale: float) -> None:
    """Write all files of the bundle except MODEL_CARD.md into `scratch`.

    Raises NoInputError when an earlier step has not run, ConfigError when text spaces differ.
    """
    _, _, text_space = load_run(run)
    quantise_first = f"python -m tools.quantize {run}"
    parity = read_json(run / "quantize.json", quantise_first)
    encoder = run / "encoder.onnx"
    if not encoder.is_file():
        raise NoInputError(f"{encoder}: missing", f"first: {quantise_first}")
    meta = read_json(bank / "text_bank.json", f"python -m tools.prompts --out {bank}")
    if meta["text_space"] != text_space:
        raise ConfigError(
            f"{bank}: a text bank of {meta['text_space']}, the student uses {text_space}",
            f"make one: python -m tools.prompts --out DIR --teacher {text_space}",
        )

    (scratch / "labels").mkdir()
    shutil.copy(encoder, scratch / "encoder.onnx")
    for name in ("text_bank.npy", "text_bank.json"):
        shutil.copy(bank / name, scratch / name)
    for path in labels:
        shutil.copy(path, scratch / "labels" / path.name)
    write_manifest(scratch, _manifest(run, parity, logit_scale))


def _manifest(run: Path, parity: dict[str, Any], logit_scale: float) -> dict[str, Any]:
    recipe, student, text_space = load_run(run)
    # The last parameter of the head is the bias of its last layer: one number for each dimension.
    dim = next(reversed(list(student.head.parameters()))).shape[0]
    pictures = f"{parity['calibration_pictures']} training pictures"
    a72 = run / "a72.json"
    return {
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
            "calibration": f"{parity['kept']}, {pictures}",
            "cosine_to_fp32": parity["onnx_fp32_to_int8"][parity["kept"]]["mean"],
        },
        "teacher": recipe.teacher.name,
        "student": recipe.student.name,
        "data": [source.name for source in recipe.data],
        "licences": list(recipe.licences),
        "recipe": asdict(recipe),
        "evaluation": {},
        "a72": read_json(a72, "") if a72.exists() else {},
        "minimum_runtime": MINIMUM_RUNTIME,
    }


def score_bundle(scratch: Path, fp32: Path | None, data: Path) -> str:
    """Score the bundle on labelled pictures and put the report into its manifest.

    Returns the section of the model card. fp32: the encoder before int8, to compare with.
    """
    subject = load_subject(scratch, fp32)
    pairs = PAIRS if PAIRS.is_file() and subject.text_space == CLIP_B32 else None
    with open_data(data) as root:
        sets = labelled_sets(root, "a photo of a {}", ())
        report = evaluate(subject, sets, pairs, scratch / "evaluation")
    manifest = read_json(scratch / "manifest.json", "")
    write_manifest(scratch, manifest | {"evaluation": report})

    pictures = sorted(path.name for path in (scratch / "evaluation").glob("*.png"))
    shown = [f"![{name}](evaluation/{name})" for name in pictures]
    return "\n\n".join((score_table(report), "\n".join(shown)))
