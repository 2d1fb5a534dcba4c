"""The model's equation, its coefficients, and how far it has been wrong.

    cycles of one thread   = compute * mca + l1 * l1_misses + dram * dram_lines
    cycles of four threads = share * (compute * mca + l1 * l1_misses) + dram4 * dram_lines

`mca` is llvm-mca's cycles over exact block counts; the misses are simulated. `share` is at least a
quarter, because four cores are at most four times as fast. The five coefficients are fitted to
published times of a real board (`tools.a72.validate`) and saved with every point in
validation.json.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from itertools import combinations
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tools.a72.cycles import CycleTable
from tools.a72.trace import Piece

VALIDATION = Path(__file__).with_name("validation.json")
GHZ = 1.5  # Raspberry Pi 4B as shipped in 2019; the board of the published table
# To the slow side. Without it, int8 networks come out at 0.95 of their published time on one thread
# ("int8_modelled_over_measured" in validation.json).
CENTRAL = 1.1
# Covers every int8 network of the validation, and all others except ShuffleNet on four threads.
PESSIMISTIC = 1.35


@dataclass(frozen=True)
class Work:
    """What a piece of program asks of the processor."""

    instructions: int
    mca: float
    l1_misses: int
    dram_lines: int

    @classmethod
    def of(cls, piece: Piece, table: CycleTable) -> Work:
        """The work of one traced piece."""
        return cls(
            piece.instructions, table.cycles(piece.blocks), piece.l1_misses, piece.dram_lines
        )

    def __add__(self, other: Work) -> Work:
        return Work(
            *(a + b for a, b in zip(asdict(self).values(), asdict(other).values(), strict=True))
        )

    @property
    def dram_mb(self) -> float:
        """Modelled traffic to memory, MB."""
        return self.dram_lines * 64 / 1e6


@dataclass(frozen=True)
class Coefficients:
    """Cycles each; `share` is a plain factor."""

    compute: float
    l1: float
    dram: float
    share: float
    dram4: float

    def ms(self, work: Work, threads: int = 1) -> float:
        """Modelled milliseconds on one or four Cortex-A72 at `GHZ`, before any margin."""
        core = self.compute * work.mca + self.l1 * work.l1_misses
        if threads == 1:
            return (core + self.dram * work.dram_lines) / (GHZ * 1e6)
        if threads == 4:
            return (self.share * core + self.dram4 * work.dram_lines) / (GHZ * 1e6)
        raise ValueError(f"the model knows one and four threads, not {threads}")


def _fit_positive(
    columns: NDArray[np.float64],
    target: NDArray[np.float64],
    explained: NDArray[np.float64] | float = 0.0,
) -> NDArray[np.float64]:
    """Least squares of the relative error, with no coefficient below zero.

    There are at most three columns, so every subset of them is tried. `explained` is the part of
    `target` that needs no fit.
    """
    # Divided by the target: a network of 10 ms counts as much as one of 500 ms.
    scaled = columns / target[:, None]
    rest = (target - explained) / target
    best = np.zeros(columns.shape[1])
    least = float((rest**2).sum())
    for count in range(1, columns.shape[1] + 1):
        for chosen in combinations(range(columns.shape[1]), count):
            answer, *_ = np.linalg.lstsq(scaled[:, chosen], rest, rcond=None)
            error = float(((scaled[:, chosen] @ answer - rest) ** 2).sum())
            if (answer >= 0).all() and error < least:
                least = error
                best = np.zeros(columns.shape[1])
                best[list(chosen)] = answer
    return best


def fit(works: list[Work], one_ms: list[float], four_ms: list[float]) -> Coefficients:
    """Coefficients that bring `works` closest to measured milliseconds on one and four threads."""
    columns = np.array([[work.mca, work.l1_misses, work.dram_lines] for work in works], np.float64)
    compute, l1, dram = _fit_positive(columns, np.array(one_ms) * GHZ * 1e6)

    # On four threads a quarter of the core's work is certain; what is fitted comes on top of it.
    core = np.stack([compute * columns[:, 0] + l1 * columns[:, 1], columns[:, 2]], axis=1)
    four = np.array(four_ms) * GHZ * 1e6
    extra, dram4 = _fit_positive(core, four, core[:, 0] / 4)
    return Coefficients(*(float(value) for value in (compute, l1, dram, 0.25 + extra, dram4)))


def leave_one_out(
    works: list[Work], one_ms: list[float], four_ms: list[float]
) -> list[tuple[float, float]]:
    """For each network, modelled / measured on one and four threads, by a fit without it."""
    ratios = []
    for i, work in enumerate(works):
        others = [j for j in range(len(works)) if j != i]
        coefficients = fit(
            [works[j] for j in others],
            [one_ms[j] for j in others],
            [four_ms[j] for j in others],
        )
        one = coefficients.ms(work) / one_ms[i]
        four = coefficients.ms(work, 4) / four_ms[i]
        ratios.append((one, four))
    return ratios


@dataclass(frozen=True)
class Validation:
    """The result of a validation: coefficients, errors, and the release of LLVM they belong to."""

    coefficients: Coefficients
    llvm: str
    error_mean: tuple[float, float]
    error_max: tuple[float, float]

    def sentence(self) -> str:
        """The warning that stands beside every modelled figure."""
        one, four = self.error_mean
        one_max, four_max = self.error_max
        return (
            "Modelled, not measured on hardware: exact instruction counts under QEMU, "
            "llvm-mca's Cortex-A72 and a simulated cache, fitted to ncnn's published Raspberry Pi "
            "4 times. Leave-one-out error over 16 networks: "
            f"one thread {one:.0%} mean, {one_max:.0%} at most; "
            f"four threads {four:.0%} mean, {four_max:.0%} at most. "
            "Not validated for ONNX Runtime on a board."
        )


def load_validation(path: Path = VALIDATION) -> Validation:
    """Read the file that `tools.a72.validate` writes."""
    kept = json.loads(path.read_text())
    errors = kept["leave_one_out_error"]
    return Validation(
        Coefficients(**kept["coefficients"]),
        kept["llvm"],
        (errors["one_thread"]["mean"], errors["four_threads"]["mean"]),
        (errors["one_thread"]["max"], errors["four_threads"]["max"]),
    )
