"""A few pictures correct the words; none, bad or misleading ones leave the words' answer."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from numpy.typing import NDArray

from edge_runtime.errors import DataError
from edge_runtime.model.labels.teaching import Taught, teach

DIM = 64
SCALE = 35.0


@dataclass(frozen=True)
class World:
    """Labels whose pictures lie around centres, and text rows that mean these centres or others."""

    centres: NDArray[np.float64]
    rows: NDArray[np.float64]

    def pictures(
        self, shots: int, seed: int = 0, noise: float = 0.06
    ) -> tuple[NDArray[np.float64], NDArray[np.intp]]:
        random = np.random.default_rng(seed)
        labels = np.repeat(np.arange(len(self.centres)), shots)
        embeddings = self.centres[labels] + noise * random.normal(size=(len(labels), DIM))
        return unit(embeddings), labels


def unit(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True))


def world(labels: int = 6, *, words: str = "right") -> World:
    random = np.random.default_rng(3)
    common = random.normal(size=DIM)
    centres = unit(common + 0.5 * random.normal(size=(labels, DIM)))
    if words == "right":
        return World(centres, unit(centres + 0.05 * random.normal(size=(labels, DIM))))
    if words == "swapped":
        return World(centres, np.roll(centres, 1, axis=0))
    # Rows of a text encoder lie closer together than its pictures.
    return World(centres, unit(common + 0.25 * random.normal(size=(labels, DIM))))


def logits(taught: Taught, pictures: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(SCALE * pictures @ taught.rows.T + taught.biases)


def right(taught: Taught, scene: World, seed: int = 99) -> float:
    pictures, labels = scene.pictures(50, seed)
    return float((logits(taught, pictures).argmax(axis=1) == labels).mean())


def words_right(scene: World, seed: int = 99) -> float:
    pictures, labels = scene.pictures(50, seed)
    return float(((pictures @ scene.rows.T).argmax(axis=1) == labels).mean())


def test_without_pictures_the_answer_is_exactly_that_of_the_words():
    scene = world()
    biases = np.linspace(-1, 1, len(scene.rows))
    taught = teach(np.empty((0, DIM)), np.empty(0, int), scene.rows, SCALE, biases=biases)
    assert np.array_equal(taught.rows, scene.rows.astype(np.float32))
    assert np.array_equal(taught.biases, biases.astype(np.float32))
    assert taught.temperature == 1
    assert taught.held_out == 0


def test_the_same_pictures_teach_the_same_to_the_bit():
    scene = world(words="foreign")
    first, second = (teach(*scene.pictures(5), scene.rows, SCALE) for _ in range(2))
    assert first.rows.tobytes() == second.rows.tobytes()
    assert first.biases.tobytes() == second.biases.tobytes()
    assert first.temperature == second.temperature


@pytest.mark.parametrize("shots", [1, 2, 4, 10])
def test_words_that_are_right_are_never_spoilt(shots: int):
    scene = world()
    for seed in range(5):
        taught = teach(*scene.pictures(shots, seed), scene.rows, SCALE)
        assert right(taught, scene) >= words_right(scene) - 0.01


@pytest.mark.parametrize(("shots", "at_least"), [(2, 0.85), (4, 0.95), (10, 0.97)])
def test_words_that_mean_nothing_are_replaced_by_the_pictures(shots: int, at_least: float):
    scene = world(words="foreign")
    assert words_right(scene) < 0.5
    assert right(teach(*scene.pictures(shots), scene.rows, SCALE), scene) >= at_least


def test_one_picture_a_label_already_helps_where_words_mean_nothing():
    scene = world(words="foreign")
    gains = [
        right(teach(*scene.pictures(1, seed), scene.rows, SCALE), scene) - words_right(scene)
        for seed in range(5)
    ]
    assert min(gains) > 0.05


def test_words_that_mean_another_label_are_overruled():
    scene = world(words="swapped")
    assert words_right(scene) < 0.1
    assert right(teach(*scene.pictures(4), scene.rows, SCALE), scene) > 0.9


def test_pictures_with_random_labels_leave_the_words_in_charge():
    scene = world(labels=4)
    pictures, labels = scene.pictures(12)
    confused = np.random.default_rng(1).permutation(labels)
    halfway = np.where(np.arange(len(labels)) % 2, labels, confused)
    taught = teach(pictures, halfway, scene.rows, SCALE)
    assert right(taught, scene) >= words_right(scene) - 0.02


def test_pictures_that_teach_what_does_not_hold_leave_the_words_alone():
    """A lamp is on in the first pictures of one label, and in the last pictures of the other."""
    scene = world(labels=2)
    lamp = unit(np.random.default_rng(8).normal(size=(1, DIM)))
    pictures, labels = scene.pictures(40, noise=0.02)
    first = np.tile(np.arange(40) < 30, 2)
    sign = np.where(first == (labels == 0), 1.0, -1.0)
    taught = teach(unit(pictures + 0.9 * sign[:, None] * lamp), labels, scene.rows, SCALE)
    assert taught.strength is None
    assert taught.right == taught.words_right


def test_one_picture_of_two_labels_is_enough():
    scene = world(labels=2, words="swapped")
    taught = teach(*scene.pictures(1), scene.rows, SCALE)
    assert taught.held_out == 0
    assert np.isfinite(taught.rows).all()


def test_pictures_of_one_label_only_are_refused():
    scene = world()
    pictures, _ = scene.pictures(1)
    with pytest.raises(DataError, match="of one label; add pictures of another, or of 'none'"):
        teach(pictures, np.zeros(len(pictures), int), scene.rows, SCALE)


def test_one_picture_under_two_labels_is_refused():
    scene = world()
    pictures, labels = scene.pictures(2)
    pictures[2] = pictures[0]
    with pytest.raises(DataError, match="one picture is under two labels"):
        teach(pictures, labels, scene.rows, SCALE)


def test_a_copy_of_a_picture_counts_once():
    scene = world(words="foreign")
    pictures, labels = scene.pictures(3)
    once = teach(pictures, labels, scene.rows, SCALE)
    twice = teach(np.vstack([pictures, pictures]), np.tile(labels, 2), scene.rows, SCALE)
    assert twice.held_out == once.held_out == len(pictures)
    assert np.array_equal(twice.rows, once.rows)


def test_frames_of_one_moment_are_held_out_together():
    """Otherwise one would answer for the other, and meaningless labels would look learnt."""
    scene = world(labels=2)
    random = np.random.default_rng(0)
    moments = unit(scene.centres[0] + 0.1 * random.normal(size=(8, DIM)))
    frames = unit(np.repeat(moments, 10, axis=0) + 0.001 * random.normal(size=(80, DIM)))
    taught = teach(frames, np.repeat([0, 1] * 4, 10), scene.rows, SCALE)
    assert taught.right < 0.8 * taught.held_out


def test_the_confusion_counts_every_held_out_picture_by_label_and_answer():
    scene = world(words="foreign")
    _, labels = scene.pictures(6)
    taught = teach(*scene.pictures(6), scene.rows, SCALE)
    assert taught.confusion.sum(axis=1).tolist() == np.bincount(labels).tolist()
    assert np.trace(taught.confusion) == taught.right
    assert taught.held_out == len(labels)
    assert taught.words_right < taught.right


def test_scores_of_new_pictures_are_as_sure_as_they_are_right():
    scene = world(words="foreign")
    taught = teach(*scene.pictures(8, noise=0.12), scene.rows, SCALE)
    pictures, labels = scene.pictures(200, seed=7, noise=0.12)

    def gap(sharpness: float) -> float:
        answers = sharpness * logits(taught, pictures)
        odds = np.exp(answers - answers.max(axis=1, keepdims=True))
        scores = odds / odds.sum(axis=1, keepdims=True)
        hits = scores.argmax(axis=1) == labels
        return abs(float(scores.max(axis=1).mean() - hits.mean()))

    assert gap(1.0) < 0.1


def test_a_label_without_pictures_keeps_its_own_pictures():
    """Teaching two labels of ten must not make everything look like these two."""
    scene = world()
    half_wrong = World(
        scene.centres, np.vstack([np.roll(scene.rows[:4], 1, axis=0), scene.rows[4:]])
    )
    pictures, labels = half_wrong.pictures(8)
    taught = teach(pictures[labels < 4], labels[labels < 4], half_wrong.rows, SCALE)

    others, truth = half_wrong.pictures(50, seed=99)
    untaught = truth >= 4
    answers = logits(taught, others).argmax(axis=1)
    before = (others @ half_wrong.rows.T).argmax(axis=1)
    assert (answers == truth)[untaught].mean() >= (before == truth)[untaught].mean() - 0.02
    assert (answers == truth)[~untaught].mean() > 0.5


def test_a_threshold_stays_where_held_out_pictures_do_not_ask_for_another():
    scene = world()
    assert (
        teach(*scene.pictures(6, noise=0.02), scene.rows, SCALE, threshold=0.26).threshold == 0.26
    )


def test_a_threshold_rises_where_unsure_answers_are_wrong():
    scene = world(labels=3, words="foreign")
    pictures, labels = scene.pictures(12, noise=0.05)
    random = np.random.default_rng(4)
    foggy = unit(scene.centres.mean(axis=0) + 0.02 * random.normal(size=(24, DIM)))
    taught = teach(
        np.vstack([pictures, foggy]),
        np.append(labels, random.integers(0, 3, 24)),
        scene.rows,
        SCALE,
        threshold=0.1,
    )
    assert taught.threshold > 0.3
