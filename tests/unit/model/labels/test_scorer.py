"""Embedding in, scores out: what the numbers in a record mean."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from edge_runtime.model.bundle import Bundle
from edge_runtime.model.labels.compiled import compile_labels
from edge_runtime.model.labels.label_set import LabelSet, LabelSpec, load_label_set, parse_label_set
from edge_runtime.model.labels.scorer import Scorer
from edge_runtime.model.labels.text_bank import TextBank
from edge_runtime.records import LabelScore

Ranked = Callable[[np.ndarray], tuple[LabelScore, ...]]


def scorer(bundle: Bundle, label_set: LabelSet, **options: int) -> Ranked:
    """Embedding -> the ranked labels, each frame speaking for itself."""
    labels = compile_labels(label_set, bundle, TextBank.from_bundle(bundle))
    score = Scorer(labels, **options)

    def ranked(embedding: np.ndarray) -> tuple[LabelScore, ...]:
        scores = score(embedding)
        assert scores is not None
        return score.ranked(scores, scores.votes)

    return ranked


def axis(*weights: float) -> np.ndarray:
    vector = np.zeros(16, np.float32)
    vector[: len(weights)] = weights
    return vector / np.linalg.norm(vector)


def with_background_label(**more: Any) -> LabelSet:
    return LabelSet(
        (LabelSpec("red"), LabelSpec("green", background=True), LabelSpec("blue")), **more
    )


def test_the_label_that_points_the_same_way_wins(bundle: Bundle):
    labels = scorer(bundle, load_label_set("colours", bundle))(axis(1, 0.2, 0))

    assert [label.name for label in labels] == ["red", "green", "blue"]
    assert [label.on for label in labels] == [True, False, False]


def test_scores_are_the_softmax_of_scaled_cosines_over_group_and_background(bundle: Bundle):
    embedding = axis(0.5, 0.4, 0.1, 0.3)
    labels = scorer(bundle, load_label_set("colours", bundle))(embedding)

    logits = 20 * embedding[[0, 1, 2, 3]]  # red, green, blue, and background on the fourth axis
    expected = np.exp(logits) / np.exp(logits).sum()
    in_order = sorted(expected[:3], reverse=True)
    assert [label.score for label in labels] == pytest.approx(in_order, abs=1e-3)
    assert labels[0].margin == pytest.approx(expected[0] - expected[1], abs=1e-3)


def test_two_that_share_the_first_place_have_no_margin_and_are_off(bundle: Bundle):
    labels = scorer(bundle, load_label_set("colours", bundle))(axis(1, 1, 0))

    assert [label.margin for label in labels[:2]] == [0, 0]
    assert not any(label.on for label in labels)


def test_background_winning_means_nothing_is_on(bundle: Bundle):
    labels = scorer(bundle, load_label_set("colours", bundle))(axis(0, 0, 0, 1))
    assert not any(label.on for label in labels)


def test_a_background_label_wins_its_group_and_is_never_reported(bundle: Bundle):
    score = scorer(bundle, with_background_label())
    green = score(axis(0.2, 1, 0))
    red = score(axis(1, 0.2, 0))

    assert [(label.name, label.on) for label in green] == [("red", False), ("blue", False)]
    assert [(label.name, label.on) for label in red] == [("red", True), ("blue", False)]


def test_a_background_label_takes_its_share_of_the_group(bundle: Bundle):
    plain = LabelSet((LabelSpec("red"), LabelSpec("green"), LabelSpec("blue")))
    embedding = axis(0.5, 0.4, 0.1)

    hidden = scorer(bundle, with_background_label())(embedding)
    shown = scorer(bundle, plain)(embedding)

    expected = {label.name: (label.score, label.margin) for label in shown if label.name != "green"}
    assert {label.name: (label.score, label.margin) for label in hidden} == expected


def test_a_background_label_belongs_to_its_group_alone(bundle: Bundle):
    label_set = LabelSet(
        (
            LabelSpec("red", group="a"),
            LabelSpec("blue", group="b"),
            LabelSpec("green", group="b", background=True),
        )
    )
    labels = scorer(bundle, label_set)(axis(0.2, 1, 0))

    assert {label.name: label.on for label in labels} == {"red": True, "blue": False}


def test_a_threshold_keeps_a_weak_winner_off(bundle: Bundle):
    weak = axis(0.21, 0.2, 0.2)

    for threshold, on in ((0.0, True), (0.9, False)):
        specs = [LabelSpec(name, threshold=threshold) for name in ("red", "green", "blue")]
        labels = scorer(bundle, LabelSet(tuple(specs)))(weak)
        assert labels[0].on is on


def test_each_group_has_its_own_winner(bundle: Bundle):
    label_set = LabelSet(
        (
            LabelSpec("red", group="a"),
            LabelSpec("blue", group="b"),
            LabelSpec("green", group="a"),
            LabelSpec("grey", group="b"),
        )
    )
    labels = scorer(bundle, label_set)(axis(1, 0, 1))

    assert {label.name for label in labels if label.on} == {"red", "blue"}


def test_a_group_of_one_without_background_is_always_on(bundle: Bundle):
    (red,) = scorer(bundle, LabelSet((LabelSpec("red"),)))(axis(0, 1))
    assert (red.score, red.margin, red.on) == (1.0, 1.0, True)


def test_top_k_never_hides_a_label_that_is_on(bundle: Bundle):
    label_set = LabelSet(tuple(LabelSpec(name, group=name) for name in ("red", "green", "blue")))
    assert len(scorer(bundle, label_set, top_k=1)(axis(1, 1, 1))) == 3


@pytest.mark.fault("M4")
def test_nan_gives_no_score_at_all(bundle: Bundle):
    label_set = load_label_set("colours", bundle)
    score = Scorer(compile_labels(label_set, bundle, TextBank.from_bundle(bundle)))

    assert score(np.full(16, np.nan, np.float32)) is None


def test_a_bias_moves_one_label_and_a_temperature_makes_all_less_sure(bundle: Bundle):
    embedding = axis(0.5, 0.4, 0.1, 0.3)
    plain = "labels: [{name: red}, {name: green}]\n"
    biased = "labels: [{name: red}, {name: green, bias: 5}]\n"
    cooled = plain + "temperatures: {labels: 5}\n"

    def score(text: str) -> dict[str, float]:
        labels = scorer(bundle, parse_label_set(text, "x.yaml"))(embedding)
        return {label.name: label.score for label in labels}

    assert score(plain)["red"] > 0.8
    assert score(biased)["green"] > 0.7
    assert 0.5 < score(cooled)["red"] < 0.7
