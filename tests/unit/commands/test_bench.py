"""bench measures what it says and exits by it."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from edge_runtime import cli
from edge_runtime.camera.decode import FULL_SIZE, decode
from edge_runtime.commands import bench
from edge_runtime.config import Config, ModelConfig


@pytest.fixture
def result(tiny_bundle: Path) -> bench.BenchResult:
    config = Config(model=ModelConfig(bundle=str(tiny_bundle), labels="colours"))
    return bench.run_bench(config, seconds=0.2)


def test_every_stage_and_memory_figure_is_there(result: bench.BenchResult):
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


def test_the_built_in_frame_can_come_uncompressed_as_the_same_picture():
    jpeg, yuyv = (decode(bench.BuiltinSource(form).read(1), FULL_SIZE) for form in ("mjpg", "yuyv"))
    assert yuyv.shape == jpeg.shape == (480, 640, 3)
    assert np.abs(yuyv.astype(int) - jpeg).mean() < 2


def test_uncompressed_is_only_for_the_built_in_frame(capsys: pytest.CaptureFixture[str]):
    assert cli.main(["bench", "--yuyv", "--camera", "demo"]) == 2
    assert "camera.fourcc" in capsys.readouterr().err


NOTHING = dict.fromkeys(("mean", "p50", "p90", "p99", "max"), 0.0)


def faked(result: bench.BenchResult, fps: float, rss: float) -> bench.BenchResult:
    return dataclasses.replace(result, fps=fps, memory_mb={**result.memory_mb, "peak_rss": rss})


def test_the_table_has_the_verdict(result: bench.BenchResult):
    assert "30.0 FPS, peak 90.0 MB: within the budget" in faked(result, 30.0, 90.0).to_text()
    assert "OVER the budget" in faked(result, 10.0, 90.0).to_text()


def test_a_slow_camera_is_told_from_a_slow_machine(result: bench.BenchResult):
    def with_encode_ms(ms: float) -> bench.BenchResult:
        return dataclasses.replace(
            faked(result, 15.0, 90.0), ms={**result.ms, "encode": {**NOTHING, "mean": ms}}
        )

    assert "the camera gives no more frames" in with_encode_ms(10.0).to_text()
    assert "the camera" not in with_encode_ms(60.0).to_text()


@pytest.mark.parametrize(
    ("fps", "rss", "code"), [(30.0, 100.0, 0), (22.9, 100.0, 1), (30.0, 180.5, 1)]
)
def test_check_exits_1_over_either_budget(
    result: bench.BenchResult, monkeypatch: pytest.MonkeyPatch, fps: float, rss: float, code: int
):
    monkeypatch.setattr(bench, "run_bench", lambda *_a, **_k: faked(result, fps, rss))
    assert cli.main(["bench", "--check"]) == code
    assert cli.main(["bench"]) == 0


def test_looking_for_frozen_and_flat_pictures_costs_under_a_fifth_of_a_millisecond(
    result: bench.BenchResult,
):
    assert result.ms["check"]["p50"] < 0.2
