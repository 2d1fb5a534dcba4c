"""What the sinks cost: ``python -m tools.measure.sink_cost CLIP``.

One real clip is labelled without sinks and with all of them.

Time is measured inside one process. It labels the clip as fast as it can and switches all sinks on
and off every hundred frames: MQTT to a real Mosquitto with a listener, metrics scraped every
second, three trigger rules (one saves clips), and the preview page without a viewer. Two
neighbouring blocks are a pair, and a pair gives a ratio. The other load of the machine changes
slowly, so it cancels in the ratio. The verdict is about the median ratio, and there is one only
where its 95 % confidence interval lies on one side of the budget. The report also shows the sinks'
own CPU time, measured by the clocks of their threads and around every hand-over. It contains no
other program, but not the sinks' effect on the caches either. Memory is the difference between the
peaks of two processes that do the same work, one of them without sinks.

The clip is labelled twice: as an MJPG camera would send it (its JPEGs go into the saved clips
unchanged), and as a video file (each picture of a saved clip is encoded here, as for a network
stream).
"""

# Over 400 lines because the measured process runs this file again, by name: everything it needs
# must be in it.

from __future__ import annotations

import argparse
import json
import math
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from edge_runtime.errors import EdgeLabelError, UsageError
from edge_runtime.records import CameraState, Frame
from tests.doubles.mosquitto import Broker
from tests.doubles.ports import free_port
from tools.lib.command import run_verb, verb_parser

BUDGET_RSS_MB = 25.0
BUDGET_TIME = 0.03
BLOCK = 100  # frames
WARM_UP = 4  # blocks
FEWEST_PAIRS = 6  # the lowest and the highest of six enclose the median with 95 %
SETTLE = 10  # frames after a switch that are not timed: the queues still hold older ones
FORMS = {"camera": "as an MJPG camera sends it", "file": "as a video file"}
CONFIG = """\
camera: {{source: {clip}, loop: true}}
model: {{labels: road}}
output: {{file: {output}}}
"""
SINKS = """\
mqtt: {{host: 127.0.0.1, port: {mqtt}, device: bench, every_s: 1}}
prometheus: {{listen: "127.0.0.1:{metrics}"}}
preview: {{listen: "127.0.0.1:{preview}"}}
triggers:
  spool: {spool}
  max_mb: 20
  rules:
    - {{name: unknown, when: {{state: unknown}}, min_interval_s: 5}}
    - name: sure
      when: {{state: ok}}
      edge: level
      save: clip
      pre_s: 3
      post_s: 3
      min_interval_s: 6
    - {{name: different, min_distance: 0.2, min_interval_s: 1}}
"""


@dataclass(frozen=True)
class Block:
    """Milliseconds for each frame of a block.

    Attributes:
        on: whether the sinks were on.
        wall_ms: by the clock.
        cpu_ms: of CPU in all threads.
        thread_ms: of CPU in the pipeline's thread.
        own_ms: of CPU in the sinks alone.
    """

    on: bool
    wall_ms: float
    cpu_ms: float
    thread_ms: float
    own_ms: float


@dataclass(frozen=True)
class Added:
    """Added share of time for each frame: median of the pairs' ratios, its 95 % confidence
    interval, lowest and highest."""

    median: float
    low: float
    high: float
    least: float
    most: float

    @classmethod
    def of(cls, ratios: list[float]) -> Added:
        """The median and its interval by the sign test.

        The test uses only the order of the values. It assumes nothing about the noise except that
        pairs are independent. Fewer than six values cannot give 95 %.
        """
        ordered = sorted(ratios)
        k = _sign_test_rank(len(ordered))
        return cls(statistics.median(ordered), ordered[k], ordered[-1 - k], ordered[0], ordered[-1])

    def __str__(self) -> str:
        parts = (self.median, self.low, self.high, self.least, self.most)
        return "{:+.1f} % (95 %: {:+.1f} to {:+.1f}; pairs from {:+.1f} to {:+.1f})".format(
            *(100 * p for p in parts)
        )


def _sign_test_rank(n: int) -> int:
    """The largest k for which the k-th lowest and the k-th highest of n values, from 0, enclose the
    median with at least 95 %."""
    # The chance that at most k of n values lie below the median must not exceed 2.5 %.
    below = 0.0
    for k in range(n // 2):
        below += math.comb(n, k) / 2**n
        if below > 0.025:
            return max(0, k - 1)
    return max(0, n // 2 - 1)


# Long because its functions share the daemon, its sinks and their clocks: passed around, each call
# would add to the time that is measured.
def run_blocks(config: Path, form: str, pairs: int) -> dict[str, Any]:
    """Time pairs of blocks with the sinks off and on, in a process of their own.

    Every other pair begins with on, so that a drift of the machine favours neither. ``pairs`` 0
    runs eight blocks with the sinks of the configuration, to measure the memory alone.
    """
    from edge_runtime.config import load_config
    from edge_runtime.daemon.notify import Notifier
    from edge_runtime.daemon.service import Daemon, Limits
    from edge_runtime.daemon.signals import Signals
    from edge_runtime.daemon.threads import ThreadDeaths
    from edge_runtime.sinks.files.jsonl import JsonlFileSink
    from edge_runtime.system.memory import peak_rss_mb

    loaded = load_config(config)
    daemon = Daemon(loaded)
    everything = daemon.parts.sinks
    only_records = [runner for runner in everything if isinstance(runner.sink, JsonlFileSink)]
    of_records = threading.main_thread().name, f"sink-{only_records[0].sink.name}"
    handing_over = _clock_puts([runner for runner in everything if runner not in only_records])
    if form == "camera":
        daemon.parts.source.close()
        daemon.parts.source = JpegClip(Path(loaded.camera.source))
    signals = Signals()
    notifier = Notifier()
    deaths = ThreadDeaths()

    def label(count: int) -> None:
        limits = Limits(frames=daemon.summary.records + count)
        daemon.loop(limits, signals, notifier, lambda: loaded, deaths)

    def clocks() -> tuple[float, ...]:
        threads = [thread for thread in threading.enumerate() if thread.name not in of_records]
        own_s = sum(
            time.clock_gettime(time.pthread_getcpuclockid(thread.ident))
            for thread in threads
            if thread.ident
        )
        return time.monotonic(), time.process_time(), time.thread_time(), own_s + handing_over()

    def block(on: bool) -> Block:
        daemon.parts.sinks = everything if on else only_records
        print("on" if on else "off", flush=True)
        label(SETTLE)
        before = clocks()
        label(BLOCK)
        return Block(on, *(1e3 * (b - a) / BLOCK for a, b in zip(before, clocks(), strict=True)))

    print("on", flush=True)
    label((WARM_UP if pairs else 8) * BLOCK)
    blocks = [block(on) for i in range(pairs) for on in (i % 2 == 0, i % 2 == 1)]
    daemon.parts.sinks = everything
    daemon.close()
    return {"blocks": [asdict(b) for b in blocks], "peak_mb": peak_rss_mb()}


def _clock_puts(runners: list[Any]) -> Callable[[], float]:
    """A function that returns the CPU seconds of all hand-overs to these sinks so far."""
    total_s = 0.0

    def clocked(put: Callable[..., None]) -> Callable[..., None]:
        def timed(labelled: Any) -> None:
            nonlocal total_s
            start = time.thread_time()
            put(labelled)
            total_s += time.thread_time() - start

        return timed

    for runner in runners:
        runner.put = clocked(runner.put)
    return lambda: total_s


class JpegClip:
    """A Source that gives a clip as an MJPG camera would: JPEG bytes, in a loop, without pause."""

    name = "camera"
    live = False
    ended = False
    patience_s = 1.0
    state: CameraState = "ok"

    def __init__(self, path: Path) -> None:
        from edge_runtime.camera.replay import ffmpeg_name
        from edge_runtime.system.opencv import cv2

        capture = cv2.VideoCapture(ffmpeg_name(path), cv2.CAP_FFMPEG)
        self._jpegs = []
        is_read, picture = capture.read()
        while is_read:
            self._jpegs.append(cv2.imencode(".jpg", picture)[1])
            is_read, picture = capture.read()
        capture.release()
        self._next = 0

    def read(self, timeout_s: float) -> Frame:
        now = time.monotonic()
        jpeg = self._jpegs[self._next % len(self._jpegs)]
        self._next += 1
        return Frame(jpeg, "mjpg", now, time.time(), video_s=self._next / 25)

    def refused(self, frame: Frame, error: EdgeLabelError) -> None:
        raise error

    def close(self) -> None:
        pass


@contextmanager
def _world(folder: Path, clip: Path) -> Iterator[tuple[Path, Path, Callable[[str], None]]]:
    """A broker with a subscriber, and a scraper.

    Yields a configuration without sinks, one with all sinks, and a function that is called with
    "on" or "off": metrics are scraped only while the sinks are on.
    """
    ports = {"metrics": free_port(), "preview": free_port()}
    off = folder / "off.yaml"
    on = folder / "on.yaml"
    plain = CONFIG.format(clip=clip.resolve(), output=folder / "run.jsonl")
    with Broker(folder) as broker:
        off.write_text(plain)
        on.write_text(plain + SINKS.format(mqtt=broker.port, spool=folder / "spool", **ports))
        listen = ["mosquitto_sub", "-h", "127.0.0.1", "-p", str(broker.port), "-t", "#"]
        listener = subprocess.Popen(listen, stdout=subprocess.DEVNULL)
        stop = threading.Event()
        scraping = threading.Event()

        def scrape() -> None:
            while not stop.wait(1.0):
                if scraping.is_set():
                    _get(f"http://127.0.0.1:{ports['metrics']}/metrics")

        threading.Thread(target=scrape, daemon=True).start()
        try:
            yield off, on, lambda word: scraping.set() if word == "on" else scraping.clear()
        finally:
            stop.set()
            listener.terminate()
            listener.wait()


def _get(url: str) -> None:
    try:
        with urllib.request.urlopen(url, timeout=1) as answer:  # noqa: S310 - our own http address
            answer.read()
    except OSError:
        # The exporter is starting or ending.
        pass


def _child(config: Path, form: str, pairs: int, tell: Callable[[str], None]) -> dict[str, Any]:
    own = [sys.executable, "-m", "tools.measure.sink_cost"]
    command = [*own, "--child", str(config), form, str(pairs)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        line = ""
        for line in process.stdout or ():
            tell(line.strip())
    tell("off")
    if process.returncode:
        raise SystemExit(
            f"sink_cost: the process that labels {config} ended with {process.returncode}"
        )
    answer: dict[str, Any] = json.loads(line)
    return answer


def measure(clip: Path, form: str, pairs: int) -> dict[str, Any]:
    """All figures for a clip in one of ``FORMS``."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with _world(folder, clip) as (off, on, tell):
            without = _child(off, form, 0, tell)
            with_all = _child(on, form, 0, tell)
            timed = _child(on, form, pairs, tell)
        captures = len(list((folder / "spool").glob("*.json")))
    blocks = [Block(**b) for b in timed["blocks"]]
    plain = [block for block in blocks if not block.on]
    full = [block for block in blocks if block.on]
    pairs_of_blocks = list(zip(plain, full, strict=True))

    added = {}
    for key in ("wall_ms", "cpu_ms", "thread_ms"):
        ratios = [getattr(b, key) / getattr(a, key) - 1 for a, b in pairs_of_blocks]
        added[key] = Added.of(ratios)
    added["own_ms"] = Added.of([b.own_ms / a.cpu_ms for a, b in pairs_of_blocks])

    low = added["wall_ms"].low
    high = added["wall_ms"].high
    mb = with_all["peak_mb"] - without["peak_mb"]
    return {
        "form": form,
        "frames": BLOCK * len(blocks),
        "pairs": pairs,
        "captures": captures,
        "off": {key: statistics.median(getattr(b, key) for b in plain) for key in added},
        "added": added,
        "peak_mb": (without["peak_mb"], with_all["peak_mb"]),
        "within_budget": _verdict(low, high, mb),
    }


def _verdict(low: float, high: float, mb: float) -> bool | None:
    """Whether the interval of added time and the added MB are within the budget.

    None where the interval holds the budget, so that it stays open.
    """
    if mb > BUDGET_RSS_MB or low > BUDGET_TIME:
        return False
    return True if high <= BUDGET_TIME else None


ROWS = {
    "wall_ms": "time per frame",
    "thread_ms": "CPU, labelling thread",
    "cpu_ms": "CPU, all threads",
    "own_ms": "CPU, the sinks' own",
}


def _text(result: dict[str, Any], clip: Path) -> str:
    mb, mb_on = result["peak_mb"]
    verdict = {
        True: "within",
        False: "OVER",
        None: "the machine is too busy to say whether it is within",
    }[result["within_budget"]]

    lines = [
        f"{clip.name}, {FORMS[result['form']]}: {result['frames']} frames in {result['pairs']} "
        f"pairs, {result['captures']} captures kept"
    ]
    for key, text in ROWS.items():
        lines.append(f"  {text:22} {result['off'][key]:6.2f} ms {result['added'][key]}")
    lines += [
        f"  {'peak RSS':22} {mb:6.1f} MB {mb_on - mb:+.1f} MB",
        f"  {verdict} the budget of {BUDGET_RSS_MB:.0f} MB and "
        f"{100 * BUDGET_TIME:.0f} % of a frame's time",
    ]
    return "\n".join(lines)


def main(argv: list[str] | None = None) -> int:
    """Run the measurement; returns the exit code."""
    # Without Mosquitto, or with one that does not start, nothing can be measured.
    return run_verb(_parser(), _sink_cost, argv, failures={OSError: 69, RuntimeError: 69})


def _sink_cost(args: argparse.Namespace) -> int:
    if args.child:
        config, form, pairs = args.child
        print(json.dumps(run_blocks(Path(config), form, int(pairs))))
        return 0
    if args.clip is None or not args.clip.is_file():
        raise UsageError(f"{args.clip}: no such clip", "give a video file")
    if args.pairs < FEWEST_PAIRS:
        raise UsageError(f"--pairs {args.pairs}: fewer than {FEWEST_PAIRS} give no 95 % interval")

    within = True
    for form in args.form or FORMS:
        result = measure(args.clip, form, args.pairs)
        text = json.dumps(result, default=asdict) if args.json else _text(result, args.clip)
        print(text, flush=True)
        within = within and bool(result["within_budget"])
    return 1 if args.check and not within else 0


def _parser() -> argparse.ArgumentParser:
    parser = verb_parser("tools.measure.sink_cost", __doc__, whole=True)
    add = parser.add_argument
    add("clip", type=Path, nargs="?", help="a video file")
    add("--pairs", type=int, default=60, help=f"pairs of {BLOCK} frames, off and on (default 60)")
    add("--form", choices=FORMS, action="append", help="only in this form (default: both)")
    add("--json", action="store_true", help="machine-readable")
    add("--check", action="store_true", help="exit 1 when over 25 MB or 3 %% of a frame's time")
    add("--child", nargs=3, help=argparse.SUPPRESS)
    return parser


if __name__ == "__main__":
    sys.exit(main())
