"""What a distillation will cost: measured on a few pictures, multiplied for many."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="needs edge-label[train]")
pytest.importorskip("transformers", reason="needs edge-label[train]")

from tools.factory.recipe import load_recipe
from tools.measure import distil_cost


def test_every_part_of_a_recipe_is_measured(
    recipe_text: str, colour_pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(recipe_text + "targets: {views: 2}\n")
    options = ["--data", str(colour_pictures), "--sample", "24", "--steps", "2", "--device", "cpu"]
    assert distil_cost.main([str(recipe), *options, "--json"]) == 0
    rates = json.loads(capsys.readouterr().out)
    assert min(rates[name] for name in ("decode_s", "teacher_s", "train_s", "memory_b")) > 0
    # 40 x 40 pixels, and two views with 16 half floats and the view's parameters each.
    assert rates["disk_b"] > 3 * 40 * 40 + 2 * 16 * 2
    assert rates["base_b"] > 50e6


def test_a_row_is_the_rates_times_the_pictures() -> None:
    rates = distil_cost.Rates(0.001, 0.01, 0.1, 1000, 200_000, 1e9)
    small, large = distil_cost.as_table(rates, [10_000, 1_000_000]).splitlines()[2:]
    assert small == "| 10,000 | 10 s | 100 s | 17 min | 18 min | 1.0 GB | 2.0 GB |"
    assert large == "| 1,000,000 | 17 min | 3 h | 28 h | 31 h | 2.0 GB | 200.0 GB |"


def test_the_sample_is_drawn_evenly_from_all_sources(recipe_text: str, tmp_path: Path) -> None:
    more = "  - {name: more, path: colours}\ntrain:"
    (tmp_path / "recipe.yaml").write_text(recipe_text.replace("train:", more))
    recipe = distil_cost.few(load_recipe(tmp_path / "recipe.yaml"), 100)
    assert [source.limit for source in recipe.data] == [50, 50]
