"""Which operators take the encoder's time: ONNX Runtime's own profile, joined with the trace."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tools.a72.cycles import CycleTable
from tools.a72.fit import Coefficients, Work
from tools.a72.trace import TICK, Piece, trace
from tools.arm64.userland import Userland

GUEST = Path(__file__).with_name("guest_encoder.py")


@dataclass(frozen=True)
class OperatorRow:
    """All operators of one kind: their number and their work together."""

    kind: str
    count: int
    work: Work


def _kind(event: dict[str, Any]) -> str:
    """The operator's name; of a convolution also the kernel size, and whether it is depthwise.

    Int8 convolutions are one kind: ONNX Runtime packs their weights, and its profile then does not
    show their shape.
    """
    name: str = event["args"]["op_name"]
    shapes = [next(iter(shape.values())) for shape in event["args"].get("input_type_shape", [])]
    weights = [shape for shape in shapes if len(shape) == 4][1:]
    if "Conv" in name and weights:
        outputs, inputs, *kernel = weights[0]
        name += " " + "x".join(str(side) for side in kernel)
        if inputs == 1 and outputs > 1:
            name += " depthwise"
    return name


def _align(starts: Sequence[float], ticks: Sequence[float], instructions: Sequence[int]) -> int:
    """The tick at which the first operator started.

    Each operator reads the clock at its start and at its end. At the right offset the differences
    between ticks and starts are all the same. An operator starts almost when the one before ends,
    so the offsets beside it fit nearly as well. Among these three, the right one has the most
    instructions inside the operators and the fewest between them.

    Args:
        starts: the profile's start times in microseconds.
        ticks: times of the clock reads in microseconds, from another zero.
        instructions: what ran before each read.
    """
    reads = 2 * len(starts)
    begins = np.asarray(starts)
    errors = []
    for offset in range(len(ticks) - reads + 1):
        difference = np.asarray(ticks[offset : offset + reads : 2]) - begins
        errors.append(float(np.abs(difference - np.median(difference)).mean()))

    best = int(np.argmin(errors))
    near = range(max(0, best - 1), min(len(errors), best + 2))
    return max(near, key=lambda offset: sum(instructions[offset + 1 : offset + reads : 2]))


def profile(model: Path, userland: Userland, table: CycleTable) -> list[OperatorRow]:
    """Work of each kind of operator in one inference of `model`, most instructions first."""
    with tempfile.TemporaryDirectory(prefix="a72-") as folder:
        pieces, _ = trace(userland, GUEST, model.resolve(), Path(folder) / "ort", ticks=True)
        events = json.loads(next(Path(folder).glob("ort*.json")).read_text())

    # The guest runs twice: a warm-up, and the inference that counts.
    runs = 2
    nodes = [e for e in events if e.get("cat") == "Node" and e["name"].endswith("_kernel_time")]
    nodes = nodes[-(len(nodes) // runs) :]
    marks = [i for i, piece in enumerate(pieces) if piece.label != TICK]
    measured: list[Piece] = pieces[marks[-2] + 1 : marks[-1]]
    first = _align(
        [node["ts"] for node in nodes],
        [piece.time_ns / 1e3 for piece in measured],
        [piece.instructions for piece in measured],
    )

    works: dict[str, Work] = {}
    counts: dict[str, int] = {}
    for i, node in enumerate(nodes):
        kind = _kind(node)
        # A piece ends at its cut, so an operator's work is in the piece of its second read.
        work = Work.of(measured[first + 2 * i + 1], table)
        works[kind] = works[kind] + work if kind in works else work
        counts[kind] = counts.get(kind, 0) + 1

    rows = [OperatorRow(kind, counts[kind], work) for kind, work in works.items()]
    return sorted(rows, key=lambda row: -row.work.instructions)


def as_text(rows: list[OperatorRow], coefficients: Coefficients) -> str:
    """A table with each kind's share of the encoder's modelled time on one thread."""
    total = sum(coefficients.ms(row.work) for row in rows)
    lines = [f"{'operator':<28}{'count':>6}{'M insn':>9}{'DRAM MB':>9}{'share':>8}"]
    for row in sorted(rows, key=lambda row: -coefficients.ms(row.work)):
        share = coefficients.ms(row.work) / total
        millions = row.work.instructions / 1e6
        lines.append(
            f"{row.kind:<28}{row.count:>6}{millions:9.2f}{row.work.dram_mb:9.2f}{share:8.1%}"
        )
    return "\n".join(lines)
