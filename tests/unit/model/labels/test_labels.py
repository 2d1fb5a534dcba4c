"""Words in, scores out: what a person may write, and what the numbers then mean."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge_runtime.errors import ConfigError, NoInputError
from edge_runtime.model.bundle import Bundle, load_bundle
from edge_runtime.model.labels.labels import (
    LabelSet,
    LabelSpec,
    Scorer,
    TextBank,
    compile_labels,
    load_label_set,
    parse_label_set,
)
from edge_runtime.records import LabelScore


@pytest.fixture
def bundle(tiny_bundle: Path) -> Bundle:
    return load_bundle(tiny_bundle)


def scorer(
    bundle: Bundle, label_set: LabelSet, **options: int
) -> Callable[[np.ndarray], tuple[LabelScore, ...] | None]:
    """Embedding -> the ranked labels, each frame speaking for itself."""
    score = Scorer(compile_labels(label_set, bundle, TextBank.from_bundle(bundle)), **options)

    def ranked(embedding: np.ndarray) -> tuple[LabelScore, ...] | None:
        scores = score(embedding)
        return None if scores is None else score.ranked(scores, scores.votes)

    return ranked


def axis(*weights: float) -> np.ndarray:
    vector = np.zeros(16, np.float32)
    vector[: len(weights)] = weights
    return vector / np.linalg.norm(vector)


def test_the_label_that_points_the_same_way_wins(bundle: Bundle):
    scores = scorer(bundle, load_label_set("colours", bundle))(axis(1, 0.2, 0))
    assert scores is not None
    assert [s.name for s in scores] == ["red", "green", "blue"]
    assert [s.on for s in scores] == [True, False, False]


def test_scores_are_the_softmax_of_scaled_cosines_over_group_and_background(bundle: Bundle):
    embedding = axis(0.5, 0.4, 0.1, 0.3)
    scores = scorer(bundle, load_label_set("colours", bundle))(embedding)
    logits = 20 * embedding[[0, 1, 2, 3]]  # red, green, blue, and background on the fourth axis
    expected = np.exp(logits) / np.exp(logits).sum()
    assert scores is not None
    assert [s.score for s in scores] == pytest.approx(sorted(expected[:3], reverse=True), abs=1e-3)
    assert scores[0].margin == pytest.approx(expected[0] - expected[1], abs=1e-3)


def test_background_winning_means_nothing_is_on(bundle: Bundle):
    scores = scorer(bundle, load_label_set("colours", bundle))(axis(0, 0, 0, 1))
    assert scores is not None
    assert not any(s.on for s in scores)


def with_background_label(**more: Any) -> LabelSet:
    return LabelSet(
        (LabelSpec("red"), LabelSpec("green", background=True), LabelSpec("blue")), **more
    )


def test_a_background_label_wins_its_group_and_is_never_reported(bundle: Bundle):
    score = scorer(bundle, with_background_label())
    green, red = score(axis(0.2, 1, 0)), score(axis(1, 0.2, 0))
    assert green is not None
    assert red is not None
    assert [(s.name, s.on) for s in green] == [("red", False), ("blue", False)]
    assert [(s.name, s.on) for s in red] == [("red", True), ("blue", False)]
    compiled = compile_labels(with_background_label(), bundle, TextBank.from_bundle(bundle))
    assert compiled.reported == ("red", "blue")


def test_a_background_label_takes_its_share_of_the_group(bundle: Bundle):
    plain = LabelSet((LabelSpec("red"), LabelSpec("green"), LabelSpec("blue")))
    embedding = axis(0.5, 0.4, 0.1)
    with_it, without = (
        scorer(bundle, with_background_label())(embedding),
        scorer(bundle, plain)(embedding),
    )
    assert with_it is not None
    assert without is not None
    shown = {s.name: (s.score, s.margin) for s in with_it}
    assert shown == {s.name: (s.score, s.margin) for s in without if s.name != "green"}


def test_a_background_label_belongs_to_its_group_alone(bundle: Bundle):
    labels = (
        LabelSpec("red", group="a"),
        LabelSpec("blue", group="b"),
        LabelSpec("green", group="b", background=True),
    )
    scores = scorer(bundle, LabelSet(labels))(axis(0.2, 1, 0))
    assert scores is not None
    assert {s.name: s.on for s in scores} == {"red": True, "blue": False}


def test_a_threshold_keeps_a_weak_winner_off(bundle: Bundle):
    weak = axis(0.21, 0.2, 0.2)
    for threshold, on in ((0.0, True), (0.9, False)):
        label_set = LabelSet(
            tuple(LabelSpec(n, threshold=threshold) for n in ("red", "green", "blue"))
        )
        scores = scorer(bundle, label_set)(weak)
        assert scores is not None
        assert scores[0].on is on


def test_each_group_has_its_own_winner(bundle: Bundle):
    label_set = LabelSet(
        (
            LabelSpec("red", group="a"),
            LabelSpec("blue", group="b"),
            LabelSpec("green", group="a"),
            LabelSpec("grey", group="b"),
        )
    )
    scores = scorer(bundle, label_set)(axis(1, 0, 1))
    assert scores is not None
    assert {s.name for s in scores if s.on} == {"red", "blue"}


def test_a_group_of_one_without_background_is_always_on(bundle: Bundle):
    scores = scorer(bundle, LabelSet((LabelSpec("red"),)))(axis(0, 1))
    assert scores is not None
    assert (scores[0].score, scores[0].margin, scores[0].on) == (1.0, 1.0, True)


def test_top_k_never_hides_a_label_that_is_on(bundle: Bundle):
    label_set = LabelSet(tuple(LabelSpec(n, group=n) for n in ("red", "green", "blue")))
    scores = scorer(bundle, label_set, top_k=1)(axis(1, 1, 1))
    assert scores is not None
    assert len(scores) == 3


@pytest.mark.fault("M4")
def test_nan_gives_no_score_at_all(bundle: Bundle):
    assert (
        scorer(bundle, load_label_set("colours", bundle))(np.full(16, np.nan, np.float32)) is None
    )


def test_prompts_are_averaged_and_normalised(bundle: Bundle):
    label_set = LabelSet((LabelSpec("reddish", prompts=("red", "dark red")),))
    compiled = compile_labels(label_set, bundle, TextBank.from_bundle(bundle))
    assert np.linalg.norm(compiled.matrix[0]) == pytest.approx(1, abs=1e-5)
    np.testing.assert_allclose(compiled.matrix[0][:4], axis(1.8, 0, 0, 0.6)[:4], atol=2e-3)


def test_the_id_changes_with_everything_that_can_change_a_score(bundle: Bundle):
    bank = TextBank.from_bundle(bundle)
    sets = [
        LabelSet((LabelSpec("red"),)),
        LabelSet((LabelSpec("green"),)),
        LabelSet((LabelSpec("red", threshold=0.5),)),
        LabelSet((LabelSpec("red", group="g"),)),
        LabelSet((LabelSpec("red"),), background=("grey",)),
        LabelSet((LabelSpec("red"), LabelSpec("green"))),
        LabelSet((LabelSpec("red"), LabelSpec("green", background=True))),
    ]
    assert len({compile_labels(s, bundle, bank).id for s in sets}) == len(sets)
    assert compile_labels(sets[0], bundle, bank).id == compile_labels(sets[0], bundle, bank).id


def test_a_phrase_is_found_with_or_without_its_photo_of_a(bundle: Bundle):
    bank = TextBank.from_bundle(bundle)
    assert bank.find("A photo of a  RED") == bank.find("red") == 0
    assert bank.find("a photo of nothing") == 4
    assert bank.find("mauve") is None


def test_an_unknown_phrase_is_explained_with_the_nearest(bundle: Bundle):
    with pytest.raises(
        ConfigError, match=r"'a photo of a gren' is not in the bundle's text bank; near it: green"
    ):
        scorer(bundle, LabelSet((LabelSpec("gren"),)))
    assert TextBank.from_bundle(bundle).nearest_names("red and yellow stripes") == [
        "red",
        "dark red",
    ]


@pytest.mark.fault("G1", "N4")
@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("labels: []", "the label set is empty"),
        ("labels:\n  - name: ''", "name must be text"),
        ("labels:\n  - name: ' '", "is empty"),
        ("labels:\n  - name: red\n  - name: Red", "given twice"),
        ("labels:\n  - name: red\n    treshold: 0.5", "did you mean 'threshold'?"),
        ("labels:\n  - name: red\n    threshold: 1.5", "between 0 and 1"),
        ("labels:\n  - name: red\n    prompts: ['']", "prompts[0] must be text"),
        ("labels:\n  - name: red\n    background: yes please", "background must be true or false"),
        (
            "labels:\n  - {name: red, background: true, threshold: 0.5}",
            "never on: a threshold means nothing",
        ),
        (
            "labels:\n  - {name: red, background: true}",
            "every label of group 'labels' is background",
        ),
        ('labels:\n  - name: "a\\nb"', "control characters"),
        (f"labels:\n  - name: {'x' * 100_000}", "100000 characters"),
        ('labels:\n  - name: red\nbackground: ["\\x07"]', "control characters"),
    ],
)
def test_a_bad_label_set_is_one_line(text: str, says: str):
    with pytest.raises(ConfigError) as error:
        parse_label_set(text, "x.yaml")
    assert says in str(error.value)
    assert len(str(error.value)) < 300


def test_letters_of_every_script_are_letters():
    text = "labels:\n  - name: مطر\n  - name: 🚗 car\n  - name: 雪道\n"
    assert [s.name for s in parse_label_set(text, "x.yaml").labels] == ["مطر", "🚗 car", "雪道"]


def test_a_label_set_is_found_by_name_or_by_path(bundle: Bundle, tmp_path: Path):
    assert len(load_label_set("colours", bundle).labels) == 3
    path = tmp_path / "my.yaml"
    path.write_text("labels:\n  - name: red\n")
    assert load_label_set(str(path), bundle).labels[0].name == "red"
    with pytest.raises(NoInputError, match="did you mean 'colours'"):
        load_label_set("colour", bundle)
    with pytest.raises(NoInputError, match="no such label set; check the path"):
        load_label_set("none.yaml", bundle)


def test_a_bias_moves_one_label_and_a_temperature_makes_all_less_sure(bundle: Bundle):
    embedding = axis(0.5, 0.4, 0.1, 0.3)
    plain = "labels: [{name: red}, {name: green}]\n"
    biased = "labels: [{name: red}, {name: green, bias: 5}]\n"
    cooled = plain + "temperatures: {labels: 5}\n"

    def score(text: str) -> dict[str, float]:
        found = scorer(bundle, parse_label_set(text, "x.yaml"))(embedding)
        assert found is not None
        return {s.name: s.score for s in found}

    assert score(plain)["red"] > 0.8
    assert score(biased)["green"] > 0.7
    assert 0.5 < score(cooled)["red"] < 0.7


@pytest.mark.parametrize("line", ["{labels: 0}", "{labels: 1000}", "{labels: hot}", "{other: 2}"])
def test_an_impossible_temperature_is_refused(bundle: Bundle, line: str):
    with pytest.raises(ConfigError, match="temperatures"):
        parse_label_set(f"labels: [{{name: red}}]\ntemperatures: {line}\n", "x.yaml")
