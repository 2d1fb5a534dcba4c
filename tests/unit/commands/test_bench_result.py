"""The table has the figures and the verdict."""

from __future__ import annotations

import dataclasses

from edge_runtime.commands.bench_result import STAGES, BenchResult

MEMORY = ("before_model", "model", "working_set", "rss", "anonymous", "pss", "peak_rss")
MACHINE = {"cpu": "x", "threads": 4, "governor": "x", "onnxruntime": "1", "opencv": "4"}


def result(fps: float, rss: float | None, encode_ms: float = 10.0) -> BenchResult:
    ms = dict.fromkeys(("mean", "p50", "p90", "p99", "max"), 0.5)
    stages = dict.fromkeys((*STAGES, "total"), ms)
    stages["encode"] = dict.fromkeys(ms, encode_ms)
    memory = {**dict.fromkeys(MEMORY, 50.0), "peak_rss": rss}
    return BenchResult("demo", "tiny-1.0.0", 100, 10.0, fps, stages, memory, MACHINE)


def test_the_table_has_the_verdict():
    assert "30.0 FPS, peak 90.0 MB: within the budget" in result(30.0, 90.0).to_text()
    assert "OVER the budget" in result(10.0, 90.0).to_text()
    assert "OVER the budget" in result(30.0, 180.5).to_text()


def test_a_figure_that_the_kernel_does_not_give_is_a_dash():
    unknown = dataclasses.replace(result(30.0, 90.0), memory_mb=dict.fromkeys(MEMORY))
    assert "PSS -, peak -" in unknown.to_text()


def test_a_slow_camera_is_told_from_a_slow_machine():
    assert "the camera gives no more frames" in result(15.0, 90.0, encode_ms=10.0).to_text()
    assert "the camera" not in result(15.0, 90.0, encode_ms=60.0).to_text()
