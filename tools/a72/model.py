"""How fast a bundle would run on a Cortex-A72: modelled, stage by stage and operator by operator.

    python -m tools.a72.model models/edge-clip
    python -m tools.a72.model models/edge-clip --json

The frame is a 640x480 JPEG through the real pipeline: capture, decode, preprocess, check (is the
picture flat?), encode, score, record. Each stage is modelled from its own instructions. The stages
are added up as if none overlapped; only the encoder uses more than one core. Needs the arm64
userland (`python -m tools.arm64.userland build`).
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tools.a72 import operators
from tools.a72.cycles import CycleTable
from tools.a72.fit import CENTRAL, GHZ, PESSIMISTIC, Coefficients, Validation, Work, load_validation
from tools.a72.trace import Piece, changed, trace
from tools.arm64 import debian
from tools.arm64.userland import DEFAULT_ROOT, REPOSITORY, Userland
from tools.lib.command import run_verb, verb_parser

HERE = Path(__file__).parent
# The labels 1, 2 ... of the cuts in guest_frame.py, in order.
STAGES = (
    "capture",
    "decode",
    "preprocess",
    "check",
    "encode",
    "score",
    "record",
    "vitals",
)
VITALS_SHARE = 1 / 30  # memory and temperature are read once a second, at 30 frames a second
DEFAULT_LABELS = "everyday"


@dataclass(frozen=True)
class FrameModel:
    """One frame of one bundle, stage by stage."""

    stages: dict[str, Work]
    coefficients: Coefficients

    @property
    def instructions(self) -> int:
        """Instructions of one frame end to end, vitals left out: the figure CI keeps."""
        return sum(work.instructions for stage, work in self.stages.items() if stage != "vitals")

    def stage_ms(self, stage: str, threads: int) -> float:
        """Milliseconds of one stage before any margin.

        Only the encoder uses more than one thread.
        """
        work = self.stages[stage]
        ms = self.coefficients.ms(work, threads if stage == "encode" else 1)
        return ms * VITALS_SHARE if stage == "vitals" else ms

    def ms(self, threads: int, margin: float) -> float:
        """Milliseconds from the camera's buffer to the written record."""
        return margin * sum(self.stage_ms(stage, threads) for stage in self.stages)


def last_frame(pieces: list[Piece]) -> dict[str, Piece]:
    """The stages of the last traced frame; the earlier ones warmed code and caches.

    A stage that ran twice counts twice.
    """
    ends = [i for i, piece in enumerate(pieces) if piece.label == len(STAGES)]
    frame: dict[str, Piece] = {}
    for piece in pieces[ends[-2] + 1 : ends[-1] + 1]:
        stage = STAGES[piece.label - 1]
        frame[stage] = frame[stage] + piece if stage in frame else piece
    return frame


def frame_model(
    bundle: Path,
    labels: str = DEFAULT_LABELS,
    userland: Userland | None = None,
    table: CycleTable | None = None,
    validation: Validation | None = None,
    *,
    prelude: str = "",
    environment: dict[str, str] | None = None,
) -> FrameModel:
    """Trace a frame of `bundle` and model it.

    `prelude` holds Python statements that the traced program runs first; tools.a72.ablate changes
    one thing with them. Raises RuntimeError when the pipeline fails in the userland.
    """
    program = changed(HERE / "guest_frame.py", prelude, bundle.resolve(), labels)
    pieces, _ = trace(userland or Userland(DEFAULT_ROOT), *program, environment=environment)
    table = table or CycleTable()
    stages = {stage: Work.of(piece, table) for stage, piece in last_frame(pieces).items()}
    return FrameModel(stages, (validation or load_validation()).coefficients)


def encoder_work(
    model: Path, userland: Userland | None = None, table: CycleTable | None = None
) -> Work:
    """The work of one inference of an ONNX file with the runtime's session options."""
    userland = userland or Userland(DEFAULT_ROOT)
    pieces, _ = trace(userland, HERE / "guest_encoder.py", model.resolve())
    return Work.of(pieces[-1], table or CycleTable())


def as_dict(frame: FrameModel, validation: Validation) -> dict[str, Any]:
    """All figures for machines; times in ms."""
    margins = {"central": CENTRAL, "pessimistic": PESSIMISTIC}
    end_to_end = {
        name: {f"{threads}_threads": round(frame.ms(threads, margin), 2) for threads in (1, 4)}
        for name, margin in margins.items()
    }
    return {
        "schema": "edge-label-a72-model/1",
        "modelled": validation.sentence(),
        "clock_ghz": GHZ,
        "instructions": frame.instructions,
        "stages": {stage: asdict(work) for stage, work in frame.stages.items()},
        "end_to_end_ms": end_to_end,
        "fps": {
            name: {key: round(1e3 / ms, 1) for key, ms in each.items()}
            for name, each in end_to_end.items()
        },
    }


def stage_table(frame: FrameModel) -> str:
    """Stages and their sum, on one and four threads; ms and cycles are central."""
    head = f"{'stage':<12}{'M insn':>9}{'M cycles':>10}{'DRAM MB':>9}"
    lines = [f"{head}{'ms, 1 thr':>11}{'ms, 4 thr':>11}   (x{CENTRAL})"]
    for stage, work in frame.stages.items():
        one = CENTRAL * frame.stage_ms(stage, 1)
        four = CENTRAL * frame.stage_ms(stage, 4)
        millions = work.instructions / 1e6
        share = " / 30 frames" if stage == "vitals" else ""
        lines.append(
            f"{stage:<12}{millions:9.2f}{one * GHZ:10.2f}{work.dram_mb:9.2f}"
            f"{one:11.2f}{four:11.2f}{share}"
        )
    lines.append(f"{'sum':<12}{frame.instructions / 1e6:9.2f}")

    for label, margin in (("central", CENTRAL), ("pessimistic", PESSIMISTIC)):
        one = frame.ms(1, margin)
        four = frame.ms(4, margin)
        lines.append(
            f"{label + f' (x{margin})':<20} one thread {one:6.1f} ms = {1e3 / one:5.1f} FPS   "
            f"four threads {four:6.1f} ms = {1e3 / four:5.1f} FPS   (modelled)"
        )
    return "\n".join(lines)


def as_text(frame: FrameModel, validation: Validation, name: str, operator_table: str) -> str:
    """The tables a person reads."""
    title = f"{name}, one 640x480 JPEG frame end to end, Cortex-A72 at {GHZ} GHz, onnxruntime int8"
    return "\n".join([title, validation.sentence(), "", stage_table(frame), "", operator_table])


def main(argv: list[str] | None = None) -> int:
    """Run the model; returns the exit code."""
    parser = verb_parser("tools.a72.model", __doc__, whole=True)
    add = parser.add_argument
    shipped = REPOSITORY / "models/edge-clip"
    add("bundle", type=Path, nargs="?", default=shipped, help="bundle directory")
    add("--labels", default=DEFAULT_LABELS, help=f"label set (default {DEFAULT_LABELS})")
    add("--json", action="store_true", help="machine-readable, without the operators")
    return run_verb(parser, _model, argv, failures={debian.MissingPieceError: 69, RuntimeError: 65})


def _model(args: argparse.Namespace) -> str:
    userland = Userland(DEFAULT_ROOT)
    table = CycleTable()
    validation = load_validation()
    frame = frame_model(args.bundle, args.labels, userland, table, validation)
    if args.json:
        return json.dumps(as_dict(frame, validation), indent=2)

    rows = operators.profile(args.bundle / "encoder.onnx", userland, table)
    by_operator = operators.as_text(rows, validation.coefficients)
    return as_text(frame, validation, str(args.bundle), by_operator)


if __name__ == "__main__":
    sys.exit(main())
