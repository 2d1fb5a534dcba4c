"""Pictures of none of the labels take what is strange, and spoil no answer among the labels."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from edge_runtime.model.labels.correction import Words
from edge_runtime.model.labels.none_of_these import fit_none_alone, none_row
from edge_runtime.model.labels.teaching import Taught, teach
from tests.unit.model.labels.test_teaching import DIM, SCALE, World, logits, right, unit, world

NONE = 3


def strange_world(scene: World) -> World:
    return World(world(labels=8).centres[3:], scene.rows)


def with_none(scene: World, shots: int, strange_shots: int = 5) -> Taught:
    pictures, labels = scene.pictures(shots)
    lesson, _ = strange_world(scene).pictures(strange_shots)
    return teach(
        np.vstack([pictures, lesson]),
        np.append(labels, np.full(len(lesson), NONE)),
        np.vstack([scene.rows, none_row(scene.rows, scene.rows[:0])]),
        SCALE,
        background=np.array([False, False, False, True]),
        none=NONE,
    )


def refused(taught: Taught, pictures: NDArray[np.float64]) -> float:
    return float((logits(taught, pictures).argmax(axis=1) == NONE).mean())


@pytest.mark.parametrize("shots", [1, 4])
def test_none_takes_what_is_strange_and_leaves_what_the_labels_show(shots: int):
    scene = world(labels=3)
    taught = with_none(scene, shots)
    others, _ = strange_world(scene).pictures(40, seed=5)
    assert refused(taught, others) > 0.7
    assert right(taught, scene) > 0.9


@pytest.mark.parametrize("shots", [1, 2, 4])
def test_pictures_of_none_change_no_answer_among_the_labels(shots: int):
    scene = world(labels=3, words="foreign")
    without = teach(*scene.pictures(shots), scene.rows, SCALE)
    taught = with_none(scene, shots)
    assert np.array_equal(taught.rows[:NONE], without.rows)
    assert np.array_equal(taught.biases[:NONE], without.biases)


def test_the_held_out_answers_count_what_is_none():
    scene = world(labels=3)
    taught = with_none(scene, 4)
    assert taught.held_out == 3 * 4 + 5 * 5
    assert taught.confusion.sum() == taught.held_out
    assert taught.confusion[NONE].sum() == 5 * 5
    assert taught.confusion[NONE, NONE] > 10


def test_none_may_stand_before_the_labels():
    scene = world(labels=3)
    pictures, labels = scene.pictures(4)
    lesson, _ = strange_world(scene).pictures(5)
    images = np.vstack([pictures, lesson])
    row = none_row(scene.rows, scene.rows[:0])
    first = teach(
        images,
        np.append(labels + 1, np.zeros(len(lesson), int)),
        np.vstack([row, scene.rows]),
        SCALE,
        none=0,
    )
    last = with_none(scene, 4)
    assert np.allclose(first.rows, np.roll(last.rows, 1, axis=0))
    assert np.allclose(first.biases, np.roll(last.biases, 1))


def test_one_label_can_be_taught_against_none():
    scene = world(labels=3)
    pictures, labels = scene.pictures(6)
    lesson, _ = strange_world(scene).pictures(5)
    own = pictures[labels == 1]
    taught = teach(
        np.vstack([own, lesson]),
        np.append(np.full(len(own), 1), np.full(len(lesson), NONE)),
        np.vstack([scene.rows, none_row(scene.rows, scene.rows[:0])]),
        SCALE,
        none=NONE,
    )
    others, _ = strange_world(scene).pictures(40, seed=5)
    assert refused(taught, others) > 0.6
    assert refused(taught, own) == 0


def test_none_begins_at_the_background_where_a_set_has_one():
    scene = world()
    background = scene.rows[:2]
    assert none_row(scene.rows, background) == pytest.approx(unit(background.mean(axis=0)[None])[0])
    assert none_row(scene.rows, background).shape == (DIM,)


def test_without_pictures_of_labels_none_takes_what_it_shows_and_no_label():
    """The words of the labels stand for their pictures: rows less the mean of all texts."""
    centres = unit(np.random.default_rng(3).normal(size=(4, DIM)))  # pictures lie around 0
    labels = World(centres[:3], unit(centres[:3] + unit(np.ones((1, DIM)))))
    strange = World(centres[3:], labels.rows)
    rows = np.vstack([labels.rows, none_row(labels.rows, labels.rows[:0])])
    words = Words(rows, np.zeros(4), SCALE)
    row, bias = fit_none_alone(words, strange.pictures(16, noise=0.03)[0], labels.rows.mean(axis=0))

    def share_of_none(scene: World) -> float:
        pictures, _ = scene.pictures(40, seed=5, noise=0.03)
        none = words.scale * pictures @ row + bias
        return float((none > words(pictures)[:, :-1].max(axis=1)).mean())

    assert share_of_none(strange) > 0.8
    assert share_of_none(labels) < 0.02
