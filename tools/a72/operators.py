"""Which operators an encoder spends its time in: ONNX Runtime's own profile, joined with the
trace."""

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
    """All operators of one kind: how many, and their work together."""

    kind: str
    count: int
    work: Work


def _kind(event: dict[str, Any]) -> str:
    """The operator's name; a convolution's with its kernel size, depthwise told apart.

    Int8 convolutions stay one kind: ONNX Runtime packs their weights, and its profile then shows no
    shape of them.
    """
    name: str = event["args"]["op_name"]
    shapes = [next(iter(shape.values())) for shape in event["args"].get("input_type_shape", [])]
    weights = [shape for shape in shapes if len(shape) == 4][1:]
    if "Conv" in name and weights:
        size = "x".join(str(n) for n in weights[0][2:])
        name += f" {size}" + (" depthwise" if weights[0][1] == 1 and weights[0][0] > 1 else "")
    return name


def _align(starts: Sequence[float], ticks: Sequence[float], instructions: Sequence[int]) -> int:
    """Which tick the first operator started at, when each operator reads the clock at its start and
    its end.

    `starts` are the profile's start times, `ticks` the times of the clock reads, both in
    microseconds from unrelated zeros, `instructions` what ran before each read. The right offset
    makes the time differences agree; as one operator starts hardly later than the one before ends,
    its neighbours do so nearly as well, and of those the one is right that has the work inside the
    operators.
    """
    wanted = np.asarray(starts)
    errors = []
    for offset in range(len(ticks) - 2 * len(starts) + 1):
        difference = np.asarray(ticks[offset : offset + 2 * len(starts) : 2]) - wanted
        errors.append(float(np.abs(difference - np.median(difference)).mean()))
    best = int(np.argmin(errors))
    near = range(max(0, best - 1), min(len(errors), best + 2))
    return max(
        near, key=lambda offset: sum(instructions[offset + 1 : offset + 2 * len(starts) : 2])
    )


def profile(model: Path, userland: Userland, table: CycleTable) -> list[OperatorRow]:
    """Work of each kind of operator in one inference of `model`, largest instruction count
    first."""
    with tempfile.TemporaryDirectory(prefix="a72-") as folder:
        pieces, _ = trace(userland, GUEST, model.resolve(), Path(folder) / "ort", ticks=True)
        events = json.loads(next(Path(folder).glob("ort*.json")).read_text())
    nodes = [e for e in events if e.get("cat") == "Node" and e["name"].endswith("_kernel_time")]
    runs = 2  # the guest's: a warm-up, and the one that counts
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
        work = Work.of(measured[first + 2 * i + 1], table)  # a piece ends at its cut
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
        lines.append(
            f"{row.kind:<28}{row.count:>6}{row.work.instructions / 1e6:9.2f}{row.work.dram_mb:9.2f}{share:8.1%}"
        )
    return "\n".join(lines)
