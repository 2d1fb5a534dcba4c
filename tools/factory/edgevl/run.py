"""One EdgeVL run from recipe to table."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from edge_runtime.system.files import write_atomically
from tools.factory.edgevl.pairs import VIEWS, JudgedPairs
from tools.factory.edgevl.recipe import EdgeVLRecipe
from tools.factory.edgevl.report import Figure, Row, edgevl_table
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
from tools.factory.int8.fake_quant import FakeQuantised
from tools.factory.int8.parity import cosines, run_all


class Log:
    """The report as it grows: every row is measured, told on standard error and written at once."""

    def __init__(self, tests: list[JudgedPairs], output: Path) -> None:
        self.answers: dict[str, list[Answers]] = {}
        self.report: dict[str, Any] = {
            "rows": {},
            "pairs": {
                pairs.name: {"modality": pairs.modality, "test pairs": len(pairs)}
                for pairs in tests
            },
            "views": VIEWS,
        }
        self._tests = tests
        self._output = output
        self._began = time.monotonic()

    def row(self, name: Row, encode: Encoder, tests: list[JudgedPairs] | None = None) -> None:
        """Measure a student on the test pairs, or on others in their place."""
        judged = tests or self._tests
        self.answers[name] = answer(encode, judged)
        row = measure(self.answers[name], judged)
        self.report["rows"][name] = row

        seconds = time.monotonic() - self._began
        brief = {key: row[key] for key in ("rgb", "other", "average")}
        print(f"{seconds:5.0f} s  {name}: {json.dumps(brief)}", file=sys.stderr, flush=True)
        self.report["seconds"] = round(seconds)
        text = json.dumps(self.report, indent=1)
        write_atomically(self._output / "edgevl.json", text.encode())


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
    """Do all of it; returns the table.

    First what is shipped, then the rows that only compare: a run that is cut short has made its
    model.
    """
    work = EdgeVL(recipe, start, data, output, quiet=quiet)
    if pack:
        work.add_evaluation(pack)
    log = Log(work.tests, output)
    log.row(Row.START, torch_encoder(work.student))
    in_grey = [pairs.in_grey() for pairs in work.tests]
    log.row(Row.START_IN_GREY, torch_encoder(work.student), in_grey)

    student, log.report[Figure.SHARES] = work.part_way(work.stage1())
    log.row(Row.STAGE1, torch_encoder(student))
    float32, int8, log.report[Figure.CALIBRATORS] = work.quantised(student)
    write_atomically(output / "encoder.fp32.onnx", float32)
    log.row(Row.PTQ, onnx_encoder(int8))

    refined, log.report[Figure.STAGE2_CHECKS] = work.stage2(int8, contrastive=True)
    shipped = refined.to_onnx()
    write_atomically(output / "encoder.onnx", shipped)
    log.report |= _parity(refined, shipped, work.tests)
    log.row(Row.STAGE2, onnx_encoder(shipped))
    refined.rounding = False
    log.row(Row.STAGE2_FP32, torch_encoder(refined))
    log.report[Figure.GAINS] = _gains(log.answers)

    if ablation:
        _ablate(work, int8, log)
    text = edgevl_table(log.report)
    write_atomically(output / "edgevl.md", text.encode())
    return text


def _parity(refined: FakeQuantised, shipped: bytes, tests: list[JudgedPairs]) -> dict[str, Any]:
    """How far torch lies from ONNX Runtime, and how far two right answers of the latter may lie."""
    other = [pairs.other[pairs.whole] for pairs in tests]
    rgb = [pairs.rgb[pairs.whole] for pairs in tests]
    pictures = np.concatenate(other + rgb)
    by_runtime = onnx_encoder(shipped)(pictures)
    by_torch = torch_encoder(refined)(pictures)
    unoptimised = run_all(shipped, [picture[None] for picture in pictures], optimised=False)
    return {
        Figure.PARITY: cosines(by_torch, by_runtime),
        Figure.NOISE: cosines(unoptimised, by_runtime),
    }


def _gains(answers: dict[str, list[Answers]]) -> dict[str, dict[str, float]]:
    refined = answers[Row.STAGE2]
    return {
        "non-RGB over the start": gain(refined, answers[Row.START], ("other",)),
        "average over PTQ": gain(refined, answers[Row.PTQ]),
        "average over its fp32 self": gain(refined, answers[Row.STAGE2_FP32]),
    }


def _ablate(work: EdgeVL, int8: bytes, log: Log) -> None:
    """The rows that need trainings of their own."""
    plain, log.report[Figure.QAT_CHECKS] = work.stage2(int8, contrastive=False)
    log.row(Row.QAT, onnx_encoder(plain.to_onnx()))
    for name, which in ((Row.STAGE1_RGB, "rgb"), (Row.STAGE1_OTHER, "other")):
        student, _ = work.part_way(work.stage1(which))
        log.row(name, torch_encoder(student))
