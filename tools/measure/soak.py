"""Run the daemon with a bad camera for a long time: ``python -m tools.measure.soak --minutes 60``.

A network camera on loopback is unplugged, stalls, freezes, goes dark and sends damaged data, again
and again. RSS, threads and descriptors of the process are read from /proc once a second, and the
latency from its records. At the end it prints the figures. With ``--check`` it also exits with 1
if memory, threads or descriptors grew, or if records were missing.
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
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from edge_runtime.errors import DataError, UsageError
from tests.doubles.mjpeg_camera import MjpegCamera
from tools.lib.command import run_verb, verb_parser

SLOPE_MB_PER_H = 1.0
WARM_UP = 0.25  # share of the time in which the heap still grows to its size
GAP_S = 2.0  # one second for a record, and one for a busy machine
# What the camera does, and for how many seconds. "away" pulls the plug.
SCRIPT = (
    *(("ok", 6.0), ("away", 1.0), ("ok", 4.0), ("stall", 5.5), ("ok", 4.0)),
    *(("frozen", 4.0), ("dark", 1.0), ("broken", 2.0)),
)


@dataclass(frozen=True, slots=True)
class Sample:
    """One reading of the process."""

    s: float
    rss_mb: float
    threads: int
    descriptors: int


@dataclass(frozen=True, slots=True)
class Verdict:
    """The result. The slope is that of RSS after warm-up, by least squares."""

    minutes: float
    records: int
    states: dict[str, int]
    absences: int
    rss_mb: tuple[float, float]
    slope_mb_per_h: float
    threads: tuple[int, int]
    descriptors: tuple[int, int]
    latency_ms: dict[str, float]
    longest_gap_s: float
    # The longest time by which this watcher woke late: the machine ran no process at all then.
    machine_gap_s: float
    exit_code: int

    def complaints(self, *, slope: bool) -> list[str]:
        """One line for each broken promise; ``slope`` needs half an hour or more."""
        wrong = []
        if self.exit_code:
            wrong.append(f"it ended with {self.exit_code}")
        if self.threads[1] > self.threads[0]:
            wrong.append(f"threads grew from {self.threads[0]} to {self.threads[1]}")
        # A connection may be opening at the moment of a sample.
        if self.descriptors[1] > self.descriptors[0] + 2:
            wrong.append(f"descriptors grew from {self.descriptors[0]} to {self.descriptors[1]}")
        if self.longest_gap_s > GAP_S + self.machine_gap_s:
            stood = f"the machine stood still for {self.machine_gap_s:.1f} s"
            wrong.append(f"{self.longest_gap_s:.1f} s without a record ({stood})")
        if slope and self.slope_mb_per_h > SLOPE_MB_PER_H:
            wrong.append(f"RSS grew by {self.slope_mb_per_h:.2f} MB an hour")
        if not slope and self.rss_mb[1] - self.rss_mb[0] > 5:
            wrong.append(f"RSS grew from {self.rss_mb[0]:.1f} to {self.rss_mb[1]:.1f} MB")
        return wrong


def soak(
    minutes: float, bundle: str | None, labels: str
) -> tuple[Verdict, list[Sample], list[dict]]:
    """Run the service; returns the verdict, the samples and the records.

    Raises DataError when there was too little to judge.
    """
    with tempfile.TemporaryDirectory() as folder, MjpegCamera() as camera:
        output = Path(folder) / "run.jsonl"
        config = Path(folder) / "soak.yaml"
        source = {"source": camera.url, "frozen_frames": 30}
        config.write_text(
            json.dumps({"camera": source, "model": {"bundle": bundle, "labels": labels}})
        )
        run = [sys.executable, "-m", "edge_runtime", "run"]
        command = [*run, "--config", str(config), "--output", str(output)]
        log = Path(folder) / "log"
        with log.open("wb") as stderr:
            process = subprocess.Popen(command, stderr=stderr)
        try:
            samples, absences = _watch(process, camera, minutes * 60)
        finally:
            process.terminate()
            code = process.wait(10)

        # Rotated files first: they hold the older records.
        files = [*sorted(Path(folder).glob("run.0*.jsonl")), output]
        lines = [line for file in files if file.exists() for line in file.read_text().splitlines()]
        records = [json.loads(line) for line in lines]
        if len(samples) < 4 or all(record["state"] == "stale" for record in records):
            messages = log.read_text(errors="replace").strip().splitlines()
            last = messages[-1] if messages else "nothing"
            raise DataError(
                "no frames or too short to judge", f"edge-label ended with {code} and wrote: {last}"
            )
    return _judge(samples, records, absences, code), samples, records


def _watch(
    process: subprocess.Popen[bytes], camera: MjpegCamera, seconds: float
) -> tuple[list[Sample], int]:
    """Play the script and sample once a second until the time is up or the process ends."""
    start = time.monotonic()
    samples: list[Sample] = []
    absences = 0
    for what, length in itertools.cycle(SCRIPT):
        until = time.monotonic() + length
        if what == "away":
            absences += 1
            camera.unplug()
        else:
            camera.mode = what
        while time.monotonic() < until:
            if time.monotonic() - start > seconds or process.poll() is not None:
                return samples, absences
            time.sleep(min(1.0, max(0.0, until - time.monotonic())))
            samples.append(_sample(process.pid, time.monotonic() - start))
        if what == "away":
            camera.plug_in()
    raise AssertionError("the script never ends")


def _sample(pid: int, s: float) -> Sample:
    proc = Path(f"/proc/{pid}")
    rss = int((proc / "statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6
    return Sample(
        s, rss, sum(1 for _ in (proc / "task").iterdir()), sum(1 for _ in (proc / "fd").iterdir())
    )


def _judge(samples: list[Sample], records: list[dict], absences: int, code: int) -> Verdict:
    late = [sample for sample in samples if sample.s > WARM_UP * samples[-1].s]
    first_half = late[: len(late) // 2]
    second_half = late[len(late) // 2 :]
    seconds = [sample.s for sample in late]
    rss_mb = [sample.rss_mb for sample in late]
    slope = np.polyfit(seconds, rss_mb, 1)[0] * 3600

    # A stale record stands for no frame, so it has no latency.
    latency = [record["ms"]["total"] for record in records if record["state"] != "stale"]
    machine_gap_s = _longest_gap([sample.s for sample in samples]) - 1
    return Verdict(
        minutes=round(samples[-1].s / 60, 2),
        records=len(records),
        states=dict(sorted(Counter(record["state"] for record in records).items())),
        absences=absences,
        rss_mb=(round(rss_mb[0], 1), round(max(rss_mb), 1)),
        slope_mb_per_h=round(float(slope), 2),
        threads=_most("threads", first_half, second_half),
        descriptors=_most("descriptors", first_half, second_half),
        latency_ms={f"p{p}": round(float(np.percentile(latency, p)), 2) for p in (50, 90, 99)},
        longest_gap_s=round(_longest_gap([record["mono_s"] for record in records]), 2),
        machine_gap_s=round(max(0.0, machine_gap_s), 2),
        exit_code=code,
    )


def _longest_gap(times: list[float]) -> float:
    return max(later - earlier for earlier, later in itertools.pairwise(times))


def _most(what: str, first_half: list[Sample], second_half: list[Sample]) -> tuple[int, int]:
    """The highest count of each half: a leak shows as a difference between them."""
    first = max(getattr(sample, what) for sample in first_half)
    second = max(getattr(sample, what) for sample in second_half)
    return first, second


def plot(samples: list[Sample], records: list[dict], path: Path) -> None:
    """Four strips over time: RSS, threads, descriptors, latency."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(4, 1, sharex=True, figsize=(10, 8), constrained_layout=True)
    s = [sample.s / 60 for sample in samples]
    for axis, name, title in zip(
        axes,
        ("rss_mb", "threads", "descriptors"),
        ("RSS, MB", "threads", "descriptors"),
        strict=False,
    ):
        axis.plot(s, [getattr(sample, name) for sample in samples], linewidth=1)
        axis.set_ylabel(title)
        axis.set_ylim(bottom=0)
    first = records[0]["mono_s"]
    axes[3].plot(
        [(r["mono_s"] - first) / 60 for r in records], [r["ms"]["total"] for r in records], ","
    )
    axes[3].set_ylabel("latency, ms")
    axes[3].set_xlabel("minutes")
    figure.savefig(path, dpi=100)


def main(argv: list[str] | None = None) -> int:
    """Run the measurement; returns the exit code."""
    return run_verb(_parser(), _soak, argv)


def _soak(args: argparse.Namespace) -> int:
    if args.minutes <= 0:
        raise UsageError("--minutes must be more than zero")
    verdict, samples, records = soak(args.minutes, args.bundle, args.labels)
    print(json.dumps(asdict(verdict), indent=2))
    if args.plot:
        plot(samples, records, args.plot)

    complaints = verdict.complaints(slope=args.minutes >= 30)
    for complaint in complaints:
        print(f"soak: {complaint}", file=sys.stderr)
    return 1 if args.check and complaints else 0


def _parser() -> argparse.ArgumentParser:
    parser = verb_parser("tools.measure.soak", __doc__)
    add = parser.add_argument
    add("--minutes", type=float, default=2.0, help="how long (default 2; an hour says something)")
    add("--bundle", help="model bundle (default: the shipped one)")
    add("--labels", default="road", help="label set (default road)")
    add("--plot", type=Path, metavar="PNG", help="draw RSS, threads, descriptors and latency")
    add("--check", action="store_true", help="exit 1 when a promise is broken")
    return parser


if __name__ == "__main__":
    sys.exit(main())
