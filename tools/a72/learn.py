"""What `edge-label labels learn` costs on a Cortex-A72: instructions, modelled time, memory.

    python -m tools.a72.learn                  # 200 pictures of 10 labels, some minutes
    python -m tools.a72.learn --pictures 50

The pictures are the built-in photograph, 640x480, moved and lit in many ways: the cost does not
depend on what they show. Instructions and memory are counted in the emulator; the time is modelled
as in tools.a72.model and was not measured on a board. Needs the arm64 userland
(`python -m tools.arm64.userland build`).
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path

import cv2
import numpy as np

from edge_runtime.commands.bench_result import BUDGET_RSS_MB
from edge_runtime.commands.builtin_frame import builtin_jpeg
from tools.a72.cycles import CycleTable
from tools.a72.fit import CENTRAL, Work, load_validation
from tools.a72.trace import trace
from tools.arm64.userland import DEFAULT_ROOT, REPOSITORY, Userland
from tools.lib import markdown
from tools.lib.command import run_verb, verb_parser

PROGRAM = Path(__file__).with_name("guest_learn.py")
BUNDLE = REPOSITORY / "models/edge-clip"
LABELS = ("dog", "cat", "car", "bus", "truck", "bicycle", "person", "tree", "bench", "chair")
STEPS = ("load", "encode", "teach", "write")


def write_case(folder: Path, pictures: int) -> tuple[Path, Path]:
    """A label set and a folder of so many different pictures for it."""
    label_set = folder / "my.yaml"
    label_set.write_text(json.dumps({"labels": LABELS}))
    photograph = cv2.imdecode(builtin_jpeg(), cv2.IMREAD_COLOR)
    random = np.random.default_rng(0)

    for i in range(pictures):
        moved = np.roll(photograph, tuple(random.integers(0, 400, 2)), axis=(0, 1))
        lit = cv2.convertScaleAbs(moved, alpha=float(random.uniform(0.5, 1.2)))
        own = folder / "pictures" / LABELS[i % len(LABELS)]
        own.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(own / f"{i:04}.jpg"), lit)
    return label_set, folder / "pictures"


def measure(userland: Userland, pictures: int) -> tuple[dict[str, Work], float]:
    """The work of each step, and the highest resident memory in MB. Raises RuntimeError."""
    with tempfile.TemporaryDirectory(prefix="a72-") as name:
        folder = Path(name)
        case = [*write_case(folder, pictures), BUNDLE]
        # A state directory for each run: the second must encode its pictures too.
        # One thread of NumPy's BLAS, as the command sets it.
        one = {"OPENBLAS_NUM_THREADS": "1"}
        states = [{"STATE_DIRECTORY": str(folder / mode)} | one for mode in ("memory", "trace")]

        done = userland.run(PROGRAM, "memory", *case, environment=states[0], timeout=3600)
        if done.returncode:
            raise RuntimeError(f"labels learn failed in the userland: {done.stderr[-300:]}")
        rss_mb = json.loads(done.stdout.splitlines()[-1])["peak"]["total"]

        pieces, _ = trace(userland, PROGRAM, "trace", *case, environment=states[1], timeout=3600)
    table = CycleTable()
    work = {
        step: Work.of(piece, table)
        for step, piece in zip(STEPS, [piece for piece in pieces if piece.label], strict=True)
    }
    return work, rss_mb


def report(work: dict[str, Work], rss_mb: float, pictures: int) -> str:
    """A table for a person, and where its times come from."""
    validation = load_validation()
    rows = []
    for step, of_step in work.items():
        seconds = [CENTRAL * validation.coefficients.ms(of_step, n) / 1e3 for n in (1, 4)]
        one, four = (f"{s:.1f}" for s in seconds)
        millions = f"{of_step.instructions / 1e6:,.0f}"
        rows.append([step, millions, one, four if step == "encode" else one])
    table = markdown.table(["step", "M instructions", "s, 1 thread", "s, 4 threads"], rows, "lrrr")
    total = sum(of_step.instructions for of_step in work.values())
    return (
        f"{pictures} pictures of {len(LABELS)} labels: {total / 1e9:.1f} G instructions, "
        f"guest RSS {rss_mb:.1f} MB (budget {BUDGET_RSS_MB:.0f})\n\n{table}\n\n"
        f"{validation.sentence()}"
    )


def main(argv: list[str] | None = None) -> int:
    """Run the measurement; returns the exit code: 1 where the memory is over the budget."""
    parser = verb_parser("tools.a72.learn", __doc__, whole=True)
    parser.add_argument("--pictures", type=int, default=200, metavar="N", help="default 200")
    return run_verb(parser, _learn, argv, failures={RuntimeError: 69})


def _learn(args: argparse.Namespace) -> int:
    work, rss_mb = measure(Userland(DEFAULT_ROOT), args.pictures)
    print(report(work, rss_mb, args.pictures))
    return 0 if rss_mb <= BUDGET_RSS_MB else 1


if __name__ == "__main__":
    sys.exit(main())
