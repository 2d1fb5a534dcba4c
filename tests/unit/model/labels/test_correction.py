"""The fit of a correction finds its minimum, and an endless prior leaves the words."""

from __future__ import annotations

import numpy as np
import pytest

from edge_runtime.model.labels.correction import (
    BIAS_FEATURE,
    Floats,
    Indices,
    Lesson,
    Words,
    log_losses,
    sharpness_of,
    softmax,
)

DIM = 32
LABELS = 4
SCALE = 35.0


@pytest.fixture
def lesson_material() -> tuple[Floats, Indices, Words]:
    random = np.random.default_rng(2)
    labels = np.array([0, 0, 0, 0, 0, 1, 1, 2, 2, 2, 3])
    images = random.normal(size=(LABELS, DIM))[labels] + random.normal(size=(len(labels), DIM))
    images /= np.linalg.norm(images, axis=1, keepdims=True)
    rows = random.normal(size=(LABELS, DIM))
    rows /= 4 * np.linalg.norm(rows, axis=1, keepdims=True)
    return images, labels, Words(rows, np.zeros(LABELS), SCALE)


def cost(
    correction: Floats, images: Floats, labels: Indices, words: Words, strength: float
) -> float:
    """The sum that the module's docstring says is minimised, written down once more."""
    constant = np.full((len(images), 1), BIAS_FEATURE)
    features = SCALE * np.hstack([images - images.mean(axis=0), constant])
    losses = log_losses(words(images) + features @ correction, labels)
    counts = np.bincount(labels)
    weights = np.median(counts) / counts[labels]
    return float((weights * losses).sum() + strength / 2 * (correction**2).sum())


@pytest.mark.parametrize("strength", [10.0, 100.0])
def test_no_step_in_any_direction_makes_the_fit_better(
    lesson_material: tuple[Floats, Indices, Words], strength: float
):
    images, labels, words = lesson_material
    correction = Lesson(images, labels, words).correction(words(images), strength)
    lowest = cost(correction, images, labels, words, strength)
    random = np.random.default_rng(0)
    for _ in range(20):
        step = 0.02 * random.normal(size=correction.shape)
        assert cost(correction + step, images, labels, words, strength) > lowest


def test_every_label_has_the_same_say_however_many_pictures_it_has(
    lesson_material: tuple[Floats, Indices, Words],
):
    """So the biases do not learn how often somebody pressed the button for a label."""
    images, labels, _ = lesson_material
    silent = Words(np.zeros((LABELS, DIM)), np.zeros(LABELS), SCALE)
    same = np.repeat(images.mean(axis=0)[None], len(images), axis=0)
    correction = Lesson(same, labels, silent).correction(silent(same), 10.0)
    assert correction[-1] == pytest.approx(np.zeros(LABELS), abs=1e-6)


def test_more_pictures_of_one_label_do_not_make_those_of_the_others_count_more(
    lesson_material: tuple[Floats, Indices, Words],
):
    """25 pictures of 'none' beside one of each label must not weaken the prior of the labels."""
    images, labels, words = lesson_material
    first = np.unique(labels, return_index=True)[1]
    copies = np.append(first, np.full(24, first[0]))
    once = Lesson(images[first], labels[first], words)
    often = Lesson(images[copies], labels[copies], words)
    assert np.array_equal(once.weights, often.weights[: len(first)] * [[25], [1], [1], [1]])


def test_an_endless_prior_leaves_the_words(lesson_material: tuple[Floats, Indices, Words]):
    images, labels, words = lesson_material
    correction = Lesson(images, labels, words).correction(words(images), 1e12)
    assert np.abs(correction).max() < 1e-6


def test_a_label_without_pictures_has_no_correction_and_the_others_are_no_likelier(
    lesson_material: tuple[Floats, Indices, Words],
):
    images, labels, words = lesson_material
    known = labels < 3
    lesson = Lesson(images[known], labels[known], words)
    correction = lesson.correction(words(images[known]), 10.0)
    assert not correction[:, 3].any()

    before = words(images[known])
    after = before + lesson.features(images[known]) @ correction
    gained = np.log(np.exp(after[:, :3]).sum(axis=1)) - np.log(np.exp(before[:, :3]).sum(axis=1))
    weights = 1 / np.bincount(labels[known])[labels[known]]
    assert np.average(gained, weights=weights) == pytest.approx(0, abs=1e-6)


def test_a_sharpness_undoes_a_temperature():
    random = np.random.default_rng(1)
    logits = random.normal(size=(4000, 5))
    labels = (softmax(logits).cumsum(axis=1) > random.random((4000, 1))).argmax(axis=1)
    assert sharpness_of(3 * logits, labels) == pytest.approx(1 / 3, rel=0.1)
    assert sharpness_of(logits, labels) == pytest.approx(1, rel=0.1)
