"""Ingredients change a recipe one by one and all together, and a gain has an interval."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import yaml

from edge_runtime.errors import ConfigError
from tools.factory.training.ingredients import (
    ALL,
    NOTHING_NEW,
    gains,
    gains_table,
    read_ingredients,
    variants,
    with_seed,
)

RECIPE = """
name: tiny
data:
  - {name: a, path: a, weight: 0}
  - {name: b, path: b}
losses: {contrastive: 0.5}
"""
INGREDIENTS = {
    "more a": {"data": {"a": {"weight": 2}}},
    "louder": {"losses": {"contrastive": 3}, "bank": {"path": "teacher"}},
}


def test_each_alone_then_all_together() -> None:
    by_name = {name: yaml.safe_load(text) for name, text in variants(RECIPE, INGREDIENTS).items()}
    assert list(by_name) == [NOTHING_NEW, "more a", "louder", ALL]
    assert by_name[NOTHING_NEW] == yaml.safe_load(RECIPE)
    assert [by_name[name]["data"][0]["weight"] for name in by_name] == [0, 2, 0, 2]
    assert [by_name[name]["losses"]["contrastive"] for name in by_name] == [0.5, 0.5, 3, 3]
    assert by_name[ALL]["bank"] == {"path": "teacher"}
    assert "bank" not in by_name["more a"]
    assert yaml.safe_load(with_seed(RECIPE, 2))["train"] == {"seed": 2}


def test_an_unknown_source_and_a_wrong_file_are_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no source 'c'"):
        variants(RECIPE, {"x": {"data": {"c": {"weight": 1}}}})
    path = tmp_path / "list.yaml"
    path.write_text("[1, 2]")
    with pytest.raises(ConfigError, match="must be a mapping"):
        read_ingredients(path)
    path.write_text("more: {losses: {contrastive: 1}}")
    assert read_ingredients(path) == {"more": {"losses": {"contrastive": 1}}}


def test_a_gain_on_every_picture_is_certain_and_a_coin_is_not() -> None:
    rng = np.random.default_rng(0)
    wrong = np.zeros(200, bool)
    coin = [{"sure": wrong, "coin": rng.random(200) < 0.5} for _ in range(3)]
    other = [{"sure": wrong.copy(), "coin": rng.random(200) < 0.5} for _ in range(3)]
    better = [{**run, "sure": np.arange(200) < 60} for run in other]

    gained = gains(better, coin)
    assert gained["sure"].top1 == pytest.approx(30)
    assert 20 < gained["sure"].low < gained["sure"].gain < gained["sure"].high < 40
    assert gained["coin"].low < 0 < gained["coin"].high
    assert gained["mean"].gain == pytest.approx((gained["sure"].gain + gained["coin"].gain) / 2)
    table = gains_table({NOTHING_NEW: gains(coin, coin), "better": gained})
    assert "(+30.0: " in table.splitlines()[3]
    assert "(" not in table.splitlines()[2]
