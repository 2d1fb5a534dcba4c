"""How much consensus calms the labels of real clips, and what delay it adds.

    python -m tools.measure.flips ../shared/data/videos --labels road

Every frame is labelled once without consensus. The same votes then go through consensus at the
clip's own times. A flip is one label going on or off. The added delay is the shift at which the
result agrees best with a filter without delay, which looks into the future: the majority of the
frames within half a second on either side.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edge_runtime.camera import open_source
from edge_runtime.config import CameraConfig, ConsensusConfig, ModelConfig
from edge_runtime.consensus import Consensus
from edge_runtime.engine import Engine, load_engine
from edge_runtime.errors import DataError, NoInputError
from edge_runtime.pipeline import Pipeline
from tools.lib.command import run_verb, verb_parser

LOOK_S = 0.5  # how far the reference filter looks to either side
SUFFIXES = {".avi", ".mp4", ".mkv", ".mov"}


@dataclass(frozen=True)
class Clip:
    """The labels of every frame of a clip.

    Attributes:
        votes: bool (frames, labels).
        times: seconds (frames,).
    """

    name: str
    votes: np.ndarray
    times: np.ndarray


def read_clip(path: Path, engine: Engine) -> Clip:
    """Label every frame of a video without consensus.

    Raises DataError for a video of fewer than two frames.
    """
    rows = {name: row for row, name in enumerate(engine.score.labels.names)}
    source = open_source(CameraConfig(source=str(path)))
    pipeline = Pipeline(engine, camera=path.name)
    votes = []
    times = []
    while not source.ended:
        frame = source.read(1.0)
        if frame is None:
            continue
        vote = np.zeros(len(rows), bool)
        for label in pipeline.process(frame).record.labels:
            vote[rows[label.name]] = label.on
        votes.append(vote)
        times.append(frame.video_s)
    source.close()

    if len(times) < 2:
        raise DataError(f"{path}: {len(times)} frames in it", "give a video of some seconds")
    return Clip(path.name, np.array(votes), np.array(times))


def settle(clip: Clip, engine: Engine, config: ConsensusConfig) -> np.ndarray:
    """The clip's votes after consensus: bool (frames, labels)."""
    labels = engine.score.labels
    consensus = Consensus(config, labels.names, [group for _, group in labels.groups])
    settled = []
    for vote, time in zip(clip.votes, clip.times, strict=True):
        on, _ = consensus(vote, float(time))
        settled.append(on)
    return np.array(settled)


def flips(on: np.ndarray) -> int:
    """How many times a label went on or off."""
    return int((on[1:] != on[:-1]).sum())


def added_delay(clip: Clip, on: np.ndarray) -> float | None:
    """Seconds by which ``on`` lags behind the centred majority of the votes.

    None when no label was ever on.
    """
    ever = on.any(axis=0)
    if not ever.any():
        return None

    fps = (len(clip.times) - 1) / (clip.times[-1] - clip.times[0])
    half = max(1, round(LOOK_S * fps))
    window = np.ones(2 * half + 1) / (2 * half + 1)
    votes = clip.votes[:, ever].astype(float)
    ideal = np.stack([np.convolve(column, window, "same") for column in votes.T], axis=1) > 0.5

    # Delays up to three seconds are tried.
    shifts = range(min(round(3 * fps), len(on) - 1))
    agreement = [float((ideal[: len(on) - d] == on[d:, ever]).mean()) for d in shifts]
    return int(np.argmax(agreement)) / fps


def clean_change(config: ConsensusConfig, fps: float) -> float:
    """Seconds until a label is on that wins every frame after another had won them all."""
    consensus = Consensus(config, ("old", "new"), [slice(0, 2)])
    frames = int(20 * fps)
    for number in range(2 * frames):
        votes = np.array([number < frames, number >= frames])
        (_, new), _ = consensus(votes, number / fps)
        if new:
            return (number - frames) / fps
    return float("inf")


def report(clips: list[Clip], engine: Engine, config: ConsensusConfig) -> dict[str, Any]:
    """Flips a minute before and after, and delays, by clip and in all."""
    rows = [_row(clip, engine, config) for clip in clips]
    minutes = sum(row["minutes"] for row in rows)
    before = sum(row["flips_before"] for row in rows)
    after = sum(row["flips_after"] for row in rows)
    delays = [row["delay_s"] for row in rows if row["delay_s"] is not None]
    return {
        "clips": rows,
        "before_per_minute": round(before / minutes, 1),
        "after_per_minute": round(after / minutes, 1),
        "fewer": round(1 - after / before, 3) if before else None,
        "longest_delay_s": max(delays, default=None),
        "clean_change_delay_s": round(clean_change(config, 25), 2),
    }


def _row(clip: Clip, engine: Engine, config: ConsensusConfig) -> dict[str, Any]:
    on = settle(clip, engine, config)
    delay = added_delay(clip, on)
    return {
        "clip": clip.name,
        "minutes": round((clip.times[-1] - clip.times[0]) / 60, 3),
        "flips_before": flips(clip.votes),
        "flips_after": flips(on),
        "delay_s": None if delay is None else round(delay, 2),
    }


def as_text(result: dict) -> str:
    """For a person."""
    head = f"{'clip':<52}{'min':>6}{'flips/min':>11}{'with consensus':>16}"
    lines = [f"{head}{'fewer':>8}{'added delay':>14}"]
    for row in result["clips"]:
        before = row["flips_before"]
        after = row["flips_after"]
        fewer = f"{1 - after / before:.0%}" if before else "-"
        late = "-" if row["delay_s"] is None else f"{row['delay_s']:.2f} s"
        rates = f"{before / row['minutes']:>11.0f}{after / row['minutes']:>16.0f}"
        lines.append(f"{row['clip'][:51]:<52}{row['minutes']:>6.2f}{rates}{fewer:>8}{late:>14}")
    rates = f"{result['before_per_minute']} -> {result['after_per_minute']} flips a minute"
    delay = result["clean_change_delay_s"]
    lines.append(f"in all: {rates}; a clean change is on after {delay} s")
    return "\n".join(lines)


def main(argv: list[str] | None = None) -> int:
    """Run the measurement; returns the exit code."""
    return run_verb(_parser(), _flips, argv)


def _flips(args: argparse.Namespace) -> str:
    files = [args.videos] if args.videos.is_file() else sorted(args.videos.rglob("*"))
    videos = [path for path in files if path.suffix.lower() in SUFFIXES]
    if not videos:
        raise NoInputError(f"{args.videos}: no videos there ({', '.join(sorted(SUFFIXES))})")

    engine = load_engine(ModelConfig(bundle=args.bundle, labels=args.labels, top_k=1))
    clips = [read_clip(path, engine) for path in videos]
    result = report(clips, engine, ConsensusConfig(method=args.method))
    return json.dumps(result, indent=1) if args.json else as_text(result)


def _parser() -> argparse.ArgumentParser:
    parser = verb_parser("tools.measure.flips", __doc__, whole=True)
    add = parser.add_argument
    methods = ["exponential", "k_of_n"]
    add("videos", type=Path, help="a video, or a folder of videos")
    add("--labels", default="road", metavar="SET", help="a shipped set or a YAML file (road)")
    add("--bundle", metavar="DIR", help="default: the one edge-label would use")
    add("--method", choices=methods, default="exponential", help="of the consensus (exponential)")
    add("--json", action="store_true", help="machine-readable")
    return parser


if __name__ == "__main__":
    sys.exit(main())
