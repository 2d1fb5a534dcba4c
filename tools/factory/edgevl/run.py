"""One EdgeVL run from recipe to table."""

from __future__ import annotations

import json
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from edge_runtime.files import write_atomically
from tools.factory.edgevl.pairs import VIEWS, TestSet, in_grey
from tools.factory.edgevl.recipe import EdgeVLRecipe
from tools.factory.edgevl.report import ROWS, edgevl_table
from tools.factory.edgevl.stages import EdgeVL
from tools.factory.edgevl.statistics import (
    Answers,
    Encoder,
    answer,
    gain,
    measure,
    onnx_encoder,
    torch_encoder,
)
from tools.factory.int8.parity import cosines, run_all


def run(
    recipe: EdgeVLRecipe,
    start: Path,
    data: Path,
    output: Path,
    pack: Path | None,
    *,
    ablation: bool,
    quiet: bool,
) -> str:
    """Do all of it; returns the table."""
    began = time.monotonic()
    work = EdgeVL(recipe, start, data, output, quiet=quiet)
    if pack:
        work.add_evaluation(pack)
    rows: dict[str, Any] = {}
    answered: dict[str, list[Answers]] = {}
    report: dict[str, Any] = {
        "rows": rows,
        "pairs": {
            s.name: {"modality": s.modality, "test pairs": len(s.rgb) // VIEWS} for s in work.tests
        },
        "views": VIEWS,
    }

    def note(name: str, encode: Encoder, tests: list[TestSet] = work.tests) -> None:
        answered[name] = answer(encode, tests)
        rows[name] = measure(answered[name], tests)
        brief = {key: rows[name][key] for key in ("rgb", "other", "average")}
        print(
            f"{time.monotonic() - began:5.0f} s  {name}: {json.dumps(brief)}",
            file=sys.stderr,
            flush=True,
        )
        report["seconds"] = round(time.monotonic() - began)
        write_atomically(output / "edgevl.json", json.dumps(report, indent=1).encode())

    # First what is shipped, then the rows that only compare: a run that is cut short has made its model.
    note(ROWS[0], torch_encoder(work.student))
    note(
        ROWS[8], torch_encoder(work.student), [replace(s, other=in_grey(s.rgb)) for s in work.tests]
    )
    student, report["validation by share of the way of stage 1"] = work.part_way(work.stage1())
    note(ROWS[3], torch_encoder(student))
    float32, int8, report["calibrators, cosine to fp32"] = work.quantised(student)
    write_atomically(output / "encoder.fp32.onnx", float32)
    note(ROWS[4], onnx_encoder(int8))
    refined, report["validation at each check of stage 2"] = work.stage2(int8, contrastive=True)
    shipped = refined.to_onnx()
    write_atomically(output / "encoder.onnx", shipped)
    pictures = np.concatenate(
        [s.other[s.whole] for s in work.tests] + [s.rgb[s.whole] for s in work.tests]
    )
    by_runtime = onnx_encoder(shipped)(pictures)
    report["torch fake-quantised to ONNX int8, cosine"] = cosines(
        torch_encoder(refined)(pictures), by_runtime
    )
    unoptimised = run_all(shipped, [p[None] for p in pictures], optimised=False)
    report["ONNX int8 without its optimiser to with it, cosine"] = cosines(unoptimised, by_runtime)
    note(ROWS[6], onnx_encoder(shipped))
    refined.rounding = False
    note(ROWS[7], torch_encoder(refined))
    refined_answers = answered[ROWS[6]]
    report["gains of stage 2 with QAT"] = {
        "non-RGB over the start": gain(refined_answers, answered[ROWS[0]], ("other",)),
        "average over PTQ": gain(refined_answers, answered[ROWS[4]]),
        "average over its fp32 self": gain(refined_answers, answered[ROWS[7]]),
    }
    if ablation:
        plain, report["validation at each check of QAT"] = work.stage2(int8, contrastive=False)
        note(ROWS[5], onnx_encoder(plain.to_onnx()))
        note(ROWS[1], torch_encoder(work.part_way(work.stage1("rgb"))[0]))
        note(ROWS[2], torch_encoder(work.part_way(work.stage1("other"))[0]))
    text = edgevl_table(report)
    write_atomically(output / "edgevl.md", text.encode())
    return text
