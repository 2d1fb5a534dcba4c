"""The table of few-shot teaching compares methods on the same pictures, none of which taught."""

from __future__ import annotations

import numpy as np
import pytest

from tools.measure import few_shot


@pytest.fixture
def task() -> few_shot.Task:
    random = np.random.default_rng(5)
    centres = random.normal(size=(4, 32))
    truth = np.repeat(np.arange(4), 8)
    pictures = centres[truth] + 0.5 * random.normal(size=(32, 32))
    pictures /= np.linalg.norm(pictures, axis=1, keepdims=True)
    rows = centres[::-1] + random.normal(size=(4, 32))
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return few_shot.Task("shapes", pictures.astype(np.float32), truth, rows, 35.0)


def test_a_draw_takes_as_many_pictures_of_each_label_and_the_same_ones_again(
    task: few_shot.Task,
) -> None:
    teaches = task.draw(3, seed=1)
    assert np.bincount(task.truth[teaches]).tolist() == [3, 3, 3, 3]
    assert (task.draw(3, seed=1) == teaches).all()
    assert (task.draw(3, seed=2) != teaches).any()


def test_no_count_is_measured_that_leaves_nothing_to_ask_about(task: few_shot.Task) -> None:
    assert task.room_for(6)
    assert not task.room_for(7)
    last_row = few_shot.few_shot_table([task], draws=1).splitlines()[-1]
    assert last_row.count("| - ") == 2


def test_every_method_answers_the_pictures_that_did_not_teach(task: few_shot.Task) -> None:
    teaches = task.draw(4, seed=0)
    for method in few_shot.METHODS.values():
        assert method(task, teaches).shape == (16, 4)
    words, _ = few_shot.measure(task, few_shot.words, 4, draws=3)
    taught, _ = few_shot.measure(task, few_shot.taught, 4, draws=3)
    assert taught > words


def test_none_pictures_take_away_what_is_like_them(task: few_shot.Task) -> None:
    random = np.random.default_rng(6)
    others = random.normal(size=32) + 0.5 * random.normal(size=(60, 32))
    others /= np.linalg.norm(others, axis=1, keepdims=True)
    refused, _, after = few_shot.with_none(task, others, shots=4, draws=2)
    assert refused > 90
    assert after > 90
