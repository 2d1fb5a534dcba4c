"""The plan of a training: its steps, sizes and learning rates follow from the recipe alone."""

from __future__ import annotations

import pytest

from tools.factory.recipe import (
    Recipe,
    SourceRecipe,
    StageRecipe,
    StudentRecipe,
    TeacherRecipe,
    TrainRecipe,
)
from tools.factory.training.plan import Plan


def plan(*stages: StageRecipe) -> Plan:
    recipe = Recipe(
        "test",
        TeacherRecipe("offline"),
        StudentRecipe("mobilenet_v2", frozen=3),
        (SourceRecipe("a", "a"),),
        train=TrainRecipe(stages=stages, warmup=100, final_lr=0.001),
    )
    return Plan(recipe, steps_per_epoch=10)


def test_each_stage_has_its_steps_size_and_frozen_layers() -> None:
    two = plan(StageRecipe(1.0, size=96, frozen=5), StageRecipe(0.5))
    assert two.steps == 15
    assert two.sizes == [96] * 10 + [192] * 5
    assert [two.frozen(9), two.frozen(10)] == [5, 3]


def test_the_rate_rises_for_at_most_a_quarter_of_the_run_and_falls_to_its_end() -> None:
    rates = [plan(StageRecipe(4.0)).rate(step, 1.0) for step in range(41)]
    assert max(rates) == rates[9] == pytest.approx(1.0)
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert rates[40] == pytest.approx(0.001)
