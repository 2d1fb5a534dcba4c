"""What camera.rotate and camera.flip cost, on this machine: ``python -m tools.measure.turn_cost``.

The built-in 640x480 frame is decoded at the size that the default encoder needs, as the pipeline
does it, and written as a JPEG, as a snapshot and the page do it. Medians in milliseconds; all turns
take their turn in every round, so that other load of the machine hits all of them.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Sequence

from edge_runtime.camera.decode import decode
from edge_runtime.camera.jpeg import JpegEncoder
from edge_runtime.commands.builtin_frame import BuiltinSource
from edge_runtime.records import Frame, Turn
from tools.lib import markdown
from tools.lib.command import run_verb, verb_parser

ROUNDS = 200
INPUT = (176, 176)  # of the default bundle's encoder, height and width

TURNS: dict[str, Turn | None] = {
    "as it is": None,
    "flip: horizontal": Turn(0, "horizontal"),
    "rotate: 180": Turn(180),
    "rotate: 90": Turn(90),
    "rotate: 270, flip: vertical": Turn(270, "vertical"),
}


def measure(rounds: int = ROUNDS) -> str:
    """The table: a row for each turn, a column for each thing that is done with a frame."""
    jobs = _jobs()
    times: dict[tuple[str, str], list[float]] = defaultdict(list)
    for _ in range(rounds):
        for turn_name, turn in TURNS.items():
            for job_name, job in jobs.items():
                start = time.perf_counter()
                job(turn)
                times[turn_name, job_name].append((time.perf_counter() - start) * 1e3)

    rows = [
        (turn_name, *(f"{statistics.median(times[turn_name, job]):.2f}" for job in jobs))
        for turn_name in TURNS
    ]
    return markdown.table(("ms for a frame", *jobs), rows, "lr")


def _jobs() -> dict[str, Callable[[Turn | None], object]]:
    mjpg = BuiltinSource("mjpg").read(0)
    yuyv = BuiltinSource("yuyv").read(0)
    to_jpeg = JpegEncoder()

    def turned(frame: Frame, turn: Turn | None) -> Frame:
        return Frame(frame.data, frame.encoding, 0.0, 0.0, turn=turn)

    return {
        "decode MJPG": lambda turn: decode(turned(mjpg, turn), INPUT),
        "decode YUYV": lambda turn: decode(turned(yuyv, turn), INPUT),
        "picture of MJPG": lambda turn: to_jpeg(turned(mjpg, turn)),
        "picture of YUYV": lambda turn: to_jpeg(turned(yuyv, turn)),
    }


def main(argv: Sequence[str] | None = None) -> int:
    """Print the table; returns the exit code."""
    parser = verb_parser("tools.measure.turn_cost", __doc__, whole=True)
    return run_verb(parser, lambda _: measure(), None if argv is None else list(argv))


if __name__ == "__main__":
    sys.exit(main())
