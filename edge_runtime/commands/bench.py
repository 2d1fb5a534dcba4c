"""``edge-label bench``: FPS, percentiles of every stage and memory, on this machine, now."""

from __future__ import annotations

import time
from typing import Literal

import numpy as np

from edge_runtime.camera import Source, open_source
from edge_runtime.camera.privacy import Privacy
from edge_runtime.commands.bench_result import STAGES, BenchResult
from edge_runtime.commands.builtin_frame import BuiltinSource
from edge_runtime.commands.machine import machine_facts
from edge_runtime.config import Config
from edge_runtime.engine import load_engine
from edge_runtime.errors import DeviceError
from edge_runtime.pipeline import Pipeline
from edge_runtime.secrecy import shown
from edge_runtime.system.memory import (
    anonymous_rss_mb,
    peak_rss_mb,
    pss_mb,
    release_memory,
    rss_mb,
)

WARM_UP_FRAMES = 10
PATIENCE_S = 5.0

# Two hours at 28 FPS. Times are kept for the percentiles, and must not become the memory measured.
MOST_FRAMES = 200_000

Times = dict[str, list[float]]


def run_bench(
    config: Config,
    *,
    source: str | None = None,
    seconds: float = 10.0,
    builtin: Literal["mjpg", "yuyv"] = "mjpg",
) -> BenchResult:
    """Label frames for ``seconds`` after a warm-up, and measure.

    Without a ``source`` the built-in frame is labelled, sent as ``builtin``. Raises DeviceError
    when a live source delivers nothing for five seconds, or ends within the warm-up.
    """
    release_memory()
    before_mb = rss_mb()

    camera = shown(source or "built-in")
    privacy = Privacy.of(config.privacy)
    pipeline = Pipeline(load_engine(config.model), camera=camera, privacy=privacy)
    loaded_mb = rss_mb()

    frames: Source = open_source(config.camera) if source else BuiltinSource(builtin)
    release_memory()  # what drawing the built-in frame took is not part of a run
    try:
        times, elapsed_s = _measure(pipeline, frames, seconds)
    finally:
        frames.close()

    count = len(times["total"])
    if not count:
        raise DeviceError(
            f"{frames.name}: ended within the warm-up of {WARM_UP_FRAMES} frames", "add --loop"
        )
    return BenchResult(
        source=frames.name,
        bundle=pipeline.engine.manifest.id,
        frames=count,
        seconds=elapsed_s,
        fps=count / elapsed_s,
        ms={stage: _percentiles(values) for stage, values in times.items()},
        memory_mb=_memory(before_mb, loaded_mb),
        machine=machine_facts(pipeline.threads),
    )


def _measure(pipeline: Pipeline, source: Source, seconds: float) -> tuple[Times, float]:
    """(milliseconds of every stage, one a frame; seconds they took together)."""
    for _ in range(WARM_UP_FRAMES):
        _label_frame(pipeline, source, None)

    times: Times = {stage: [] for stage in (*STAGES, "total")}
    start = time.monotonic()
    while time.monotonic() - start < seconds and len(times["total"]) < MOST_FRAMES:
        if not _label_frame(pipeline, source, times):
            break
    return times, time.monotonic() - start


def _label_frame(pipeline: Pipeline, source: Source, times: Times | None) -> bool:
    """Label one frame and note its times; False at the end of the source."""
    frame = source.read(PATIENCE_S)
    if frame is None:
        if source.ended:
            return False
        state = source.state.replace("_", " ")
        raise DeviceError(
            f"{source.name}: no frame for {PATIENCE_S:.0f} s, camera {state}",
            "see edge-label doctor",
            state=source.state,
        )

    record = pipeline.process(frame).record
    start = time.monotonic()
    record.to_json()
    record_ms = (time.monotonic() - start) * 1e3

    if times is not None:
        for stage, values in times.items():
            values.append(record_ms if stage == "record" else getattr(record.ms, stage))
    return True


def _percentiles(values: list[float]) -> dict[str, float]:
    p50, p90, p99 = np.percentile(values, (50, 90, 99))
    figures = {"mean": np.mean(values), "p50": p50, "p90": p90, "p99": p99, "max": max(values)}
    return {name: round(float(value), 3) for name, value in figures.items()}


def _memory(before_mb: float, loaded_mb: float) -> dict[str, float | None]:
    """Megabytes, by what they are for; None where the kernel does not say."""
    rss = rss_mb()
    figures = {
        "before_model": before_mb,
        "model": loaded_mb - before_mb,
        "working_set": rss - loaded_mb,
        "rss": rss,
        "anonymous": anonymous_rss_mb(),
        "pss": pss_mb(),
        "peak_rss": peak_rss_mb(),
    }
    return {name: None if value is None else round(value, 1) for name, value in figures.items()}
