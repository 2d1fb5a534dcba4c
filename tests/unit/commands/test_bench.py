"""bench measures what it says and exits by it."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from edge_runtime import cli
from edge_runtime.commands import bench
from edge_runtime.commands.bench_result import BenchResult
from edge_runtime.config import Config, ModelConfig


@pytest.fixture
def result(tiny_bundle: Path) -> BenchResult:
    config = Config(model=ModelConfig(bundle=str(tiny_bundle), labels="colours"))
    return bench.run_bench(config, seconds=0.2)


def test_every_stage_and_memory_figure_is_there(result: BenchResult):
    got = json.loads(result.to_json())
    assert set(got["ms"]) == {
        "wait",
        "decode",
        "preprocess",
        "check",
        "encode",
        "score",
        "record",
        "total",
    }
    assert all(v["p50"] <= v["p90"] <= v["p99"] <= v["max"] for v in got["ms"].values())
    assert got["memory_mb"]["peak_rss"] >= got["memory_mb"]["rss"] > 0
    assert got["frames"] > 10
    assert got["fps"] == pytest.approx(got["frames"] / got["seconds"], rel=0.1)


def test_uncompressed_is_only_for_the_built_in_frame(capsys: pytest.CaptureFixture[str]):
    assert cli.main(["bench", "--yuyv", "--camera", "demo"]) == 2
    assert "camera.fourcc" in capsys.readouterr().err


def faked(result: BenchResult, fps: float, rss: float) -> BenchResult:
    return dataclasses.replace(result, fps=fps, memory_mb={**result.memory_mb, "peak_rss": rss})


@pytest.mark.parametrize(
    ("fps", "rss", "code"), [(30.0, 100.0, 0), (22.9, 100.0, 1), (30.0, 180.5, 1)]
)
def test_check_exits_1_over_either_budget(
    result: BenchResult, monkeypatch: pytest.MonkeyPatch, fps: float, rss: float, code: int
):
    monkeypatch.setattr(bench, "run_bench", lambda *_a, **_k: faked(result, fps, rss))
    assert cli.main(["bench", "--check"]) == code
    assert cli.main(["bench"]) == 0


def test_looking_for_frozen_and_flat_pictures_costs_under_a_fifth_of_a_millisecond(
    result: BenchResult,
):
    assert result.ms["check"]["p50"] < 0.2
