"""What a label set costs: `python -m tools.measure.label_cost 20 10000`.

Writes a set of that many labels outside the text bank, builds it with the text encoder that ships,
and runs the daemon with it. Memory is the sum over a command's processes, the highest of a reading
every 10 ms; it is the proportional set size, so a page that they share counts once. Processor
seconds are right on a busy machine too, seconds only on a quiet one.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from edge_runtime.errors import DataError, UsageError
from edge_runtime.model.bundle import load_bundle
from edge_runtime.model.labels.text_bank import TextBank
from tools.lib import markdown
from tools.lib.command import run_verb, verb_parser

# A word for a look and a name of the bank make a phrase that the bank is unlikely to hold.
LOOKS = ("broken", "dented", "dusty", "frozen", "melted", "mossy", "painted", "rusty", "torn")
FRAMES = 30
HEAD = (
    "labels",
    "build s",
    "processor s",
    "build MB",
    "file MB",
    "daemon's peak MB",
    "scoring ms a frame",
)


@dataclass(frozen=True)
class Cost:
    """Seconds on the clock, seconds of processor, and MB of all processes of one command."""

    seconds: float
    processor_s: float
    peak_mb: float


def phrases_outside(bank: TextBank, count: int) -> list[str]:
    """Phrases such as "rusty abacus" that the bank does not hold.

    Raises UsageError when there are fewer than `count`.
    """
    candidates = (f"{look} {name}" for name in bank.names for look in LOOKS)
    outside = (phrase for phrase in candidates if bank.find(phrase) is None)
    phrases = list(itertools.islice(outside, count))
    if len(phrases) < count:
        raise UsageError(
            f"the bank's names give {len(phrases)} phrases, not {count}", "ask for fewer"
        )
    return phrases


def cost_of(command: list[str]) -> Cost:
    """Run a command to its end and watch its processes.

    Raises DataError with its last line when it fails.
    """
    started = time.monotonic()
    peak = 0.0
    # Not a pipe: nobody reads while the command runs, and a full pipe would stop it.
    with tempfile.TemporaryFile() as stderr:
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=stderr)
        before = os.times()
        while process.poll() is None:
            peak = max(peak, sum(pss_mb(pid) for pid in family(process.pid)))
            time.sleep(0.01)
        stderr.seek(0)
        lines = stderr.read().decode(errors="replace").strip().splitlines()
    if process.returncode:
        reason = lines[-1] if lines else ""
        raise DataError(f"{' '.join(command)}: ended with {process.returncode}: {reason}")

    after = os.times()
    processor = (
        after.children_user + after.children_system - before.children_user - before.children_system
    )
    return Cost(time.monotonic() - started, processor, peak)


def family(pid: int) -> Iterator[int]:
    """A process and all its descendants, whichever of its threads began them."""
    yield pid
    for thread in Path(f"/proc/{pid}/task").glob("*"):
        try:
            children = (thread / "children").read_text()
        except OSError:
            continue  # it ended a moment ago
        for child in children.split():
            yield from family(int(child))


def pss_mb(pid: int) -> float:
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0.0
    return next(
        (int(line.split()[1]) * 1024 / 1e6 for line in lines if line.startswith("Pss:")), 0.0
    )


def cost_row(count: int, bank: TextBank, bundle: str) -> str:
    """Build and run a set of `count` labels; returns a row of the table."""
    with tempfile.TemporaryDirectory() as folder:
        label_set = Path(folder) / "my.yaml"
        records = Path(folder) / "records.jsonl"
        labels = [{"name": phrase} for phrase in phrases_outside(bank, count)]
        label_set.write_text(json.dumps({"labels": labels}))

        own = [sys.executable, "-m", "edge_runtime"]
        build = cost_of([*own, "labels", "build", str(label_set), "--bundle", bundle])
        run = [*own, "--camera", "demo", "--frames", str(FRAMES), "--bundle", bundle]
        daemon = cost_of([*run, "--labels", str(label_set), "--output", str(records)])
        megabytes = label_set.with_suffix(".embeddings").stat().st_size / 1e6
        score = sorted(json.loads(line)["ms"]["score"] for line in records.read_text().splitlines())

    cells = [
        f"{count:,}",
        f"{build.seconds:.1f}",
        f"{build.processor_s:.1f}",
        f"{build.peak_mb:.0f}",
        f"{megabytes:.2f}",
        f"{daemon.peak_mb:.0f}",
        f"{score[len(score) // 2]:.2f}",
    ]
    return markdown.row(cells)


def main(argv: list[str] | None = None) -> int:
    """Run the measurement; returns the exit code."""
    parser = verb_parser("tools.measure.label_cost", __doc__, whole=True)
    add = parser.add_argument
    add("counts", type=int, nargs="*", default=[20, 10_000], metavar="COUNT", help="20 10000")
    add("--bundle", default="models/edge-clip", metavar="DIR", help="default models/edge-clip")
    return run_verb(parser, _label_cost, argv)


def _label_cost(args: argparse.Namespace) -> None:
    bank = TextBank.from_bundle(load_bundle(Path(args.bundle)))
    # Each row takes a minute or more, so it is printed at once.
    print(markdown.table(HEAD, []))
    for count in args.counts:
        print(cost_row(count, bank, args.bundle), flush=True)


if __name__ == "__main__":
    sys.exit(main())
