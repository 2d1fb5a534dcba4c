"""What the sinks cost: ``python -m tools.sink_cost CLIP``. One real clip, with none of them and with all of them.

Runs ``edge-label`` on the clip as fast as it goes, in pairs (off, on), with MQTT to a real Mosquitto that somebody
listens to, metrics scraped every second, three trigger rules (one makes clips), and the preview page with nobody
looking. Prints added memory and added time per frame as medians over the pairs, and a verdict.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tools.mosquitto import Broker, free_port

BUDGET_RSS_MB = 25.0
BUDGET_TIME = 0.03
MAX_SPREAD = 0.10  # between the pairs; on a busy machine a median of 3 % means nothing
WARM_UP_S = 3.0
_TICKS = os.sysconf("SC_CLK_TCK")

CONFIG = """\
mqtt: {{host: 127.0.0.1, port: {mqtt}, device: bench, every_s: 1}}
prometheus: {{listen: "127.0.0.1:{metrics}"}}
preview: {{listen: "127.0.0.1:{preview}"}}
triggers:
  spool: {spool}
  max_mb: 20
  rules:
    - {{name: unknown, when: {{state: unknown}}, min_interval_s: 5}}
    - {{name: sure, when: {{state: ok}}, edge: level, save: clip, pre_s: 3, post_s: 3, min_interval_s: 6}}
    - {{name: different, min_distance: 0.2, min_interval_s: 1}}
"""


@dataclass(frozen=True)
class Run:
    """One run after its warm-up: milliseconds a frame by the clock and of CPU, and MB."""

    frames: int
    wall_ms: float
    cpu_ms: float
    total_ms: float
    rss_mb: float
    peak_mb: float


def measure(clip: Path, seconds: float, config: Path | None, folder: Path) -> Run:
    """Run edge-label on the clip for ``seconds`` after the warm-up."""
    output = folder / "run.jsonl"
    output.unlink(missing_ok=True)
    command = [sys.executable, "-m", "edge_runtime", "--camera", str(clip), "--loop", "--labels", "road"]
    command += ["--output", str(output), *(["--config", str(config)] if config else [])]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    try:
        while not (output.exists() and output.stat().st_size) and process.poll() is None:
            time.sleep(0.05)
        time.sleep(WARM_UP_S)
        before = _cpu_s(process.pid), _records(output)
        time.sleep(seconds)
        after = _cpu_s(process.pid), _records(output)
        peak_mb = _peak_mb(process.pid)
    except OSError:
        raise SystemExit(f"edge-label ended early: {process.communicate()[1]}") from None
    finally:
        process.terminate()
        process.wait()
    records = after[1][len(before[1]) :]
    span_s = records[-1]["mono_s"] - records[0]["mono_s"]
    return Run(
        frames=len(records),
        wall_ms=1e3 * span_s / (len(records) - 1),
        cpu_ms=1e3 * (after[0] - before[0]) / len(records),
        total_ms=statistics.mean(r["ms"]["total"] for r in records),
        rss_mb=statistics.median(r["rss_mb"] for r in records),
        peak_mb=peak_mb,
    )


def _records(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines(keepends=True) if line.endswith("\n")]


def _cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def _peak_mb(pid: int) -> float:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) * 1024 / 1e6


@contextmanager
def _everything(folder: Path) -> Iterator[Path]:
    """A broker with a subscriber and a scraper; yields a configuration with all sinks on."""
    metrics = free_port()
    with Broker(folder) as broker:
        text = CONFIG.format(mqtt=broker.port, metrics=metrics, preview=free_port(), spool=folder / "spool")
        config = folder / "on.yaml"
        config.write_text(text)
        listen = ["mosquitto_sub", "-h", "127.0.0.1", "-p", str(broker.port), "-t", "#"]
        listener = subprocess.Popen(listen, stdout=subprocess.DEVNULL)
        stop = threading.Event()
        threading.Thread(target=_scrape, args=(f"http://127.0.0.1:{metrics}/metrics", stop), daemon=True).start()
        try:
            yield config
        finally:
            stop.set()
            listener.terminate()
            listener.wait()


def _scrape(url: str, stop: threading.Event) -> None:
    while not stop.wait(1.0):
        try:
            with urllib.request.urlopen(url, timeout=1) as answer:  # noqa: S310 - our own http address
                answer.read()
        except OSError:
            continue


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("clip", type=Path)
    parser.add_argument("--seconds", type=float, default=15, help="of each run, after its warm-up (default 15)")
    parser.add_argument("--pairs", type=int, default=5, help="of runs, off and on (default 5)")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--check", action="store_true", help="exit 1 when over 25 MB or 3 %% of a frame's time")
    options = parser.parse_args()
    pairs: list[tuple[Run, Run]] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with _everything(folder) as config:
            for i in range(options.pairs):
                # Every other pair the other way round, so that a machine that grows warm or busy favours neither.
                runs = {
                    on: measure(options.clip, options.seconds, on, folder) for on in (None, config)[:: 1 - 2 * (i % 2)]
                }
                pairs.append((runs[None], runs[config]))
                print(_line(i, *pairs[-1]), file=sys.stderr)
        kept = sorted(path.name for path in (folder / "spool").glob("*.json"))
    result = {
        "frames": sum(off.frames + on.frames for off, on in pairs),
        "pairs": len(pairs),
        "captures": len(kept),
        "off": _medians([off for off, _ in pairs]),
        "on": _medians([on for _, on in pairs]),
        "added_peak_mb": _median(on.peak_mb - off.peak_mb for off, on in pairs),
        "added_rss_mb": _median(on.rss_mb - off.rss_mb for off, on in pairs),
        "added_wall": _median(on.wall_ms / off.wall_ms - 1 for off, on in pairs),
        "added_cpu": _median(on.cpu_ms / off.cpu_ms - 1 for off, on in pairs),
    }
    ratios = [on.wall_ms / off.wall_ms - 1 for off, on in pairs]
    telling = max(ratios) - min(ratios) <= MAX_SPREAD
    good = telling and result["added_peak_mb"] <= BUDGET_RSS_MB and result["added_wall"] <= BUDGET_TIME
    if options.json:
        print(json.dumps({**result, "within_budget": good}, indent=2))
    else:
        off, on = result["off"], result["on"]
        print(
            f"{result['frames']} frames in {len(pairs)} pairs of runs on {options.clip.name}, {len(kept)} captures kept"
        )
        print(
            f"all sinks on: {result['added_peak_mb']:+.1f} MB peak RSS ({off['peak_mb']:.1f} -> {on['peak_mb']:.1f}), "
            f"{100 * result['added_wall']:+.1f} % time per frame ({off['wall_ms']:.2f} -> {on['wall_ms']:.2f} ms), "
            f"{100 * result['added_cpu']:+.1f} % CPU per frame ({off['cpu_ms']:.2f} -> {on['cpu_ms']:.2f} ms)"
        )
        budget = f"{BUDGET_RSS_MB:.0f} MB and {100 * BUDGET_TIME:.0f} % of a frame's time"
        verdict = f"{'within' if good else 'OVER'} the budget of {budget}"
        noise = f"no verdict: the pairs lie between {100 * min(ratios):+.0f} and {100 * max(ratios):+.0f} % time"
        print(verdict if telling else f"{noise}; run it on a quiet machine")
    return 1 if options.check and not good else 0


def _medians(runs: list[Run]) -> dict[str, float]:
    return {key: _median(getattr(run, key) for run in runs) for key in ("wall_ms", "cpu_ms", "rss_mb", "peak_mb")}


def _median(values: Iterator[float]) -> float:
    return round(statistics.median(values), 4)


def _line(i: int, off: Run, on: Run) -> str:
    return (
        f"pair {i}: off {off.wall_ms:.2f} ms a frame, {off.peak_mb:.1f} MB; on {on.wall_ms:.2f} ms, "
        f"{on.peak_mb:.1f} MB; {100 * (on.wall_ms / off.wall_ms - 1):+.1f} % time, "
        f"{100 * (on.cpu_ms / off.cpu_ms - 1):+.1f} % CPU"
    )


if __name__ == "__main__":
    sys.exit(main())
