"""No picture is asked about that taught, and every split asks about each once."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("torch", reason="the [train] extra is not installed")

from tools.factory.bundling.lessons import Lesson
from tools.measure import conditions, shipped_conditions

NAMES = ("fog", "clear weather", "sunny", "cloudy", "rain", "snowfall")


def lesson(shows: list[list[str]], folders: list[str]) -> Lesson:
    """Pictures of the group weather; their embeddings point along their first name's axis."""
    table = np.zeros((len(shows), len(NAMES) + 1), bool)
    for picture, names in enumerate(shows):
        table[picture, [NAMES.index(name) for name in names] or [len(NAMES)]] = True
    files = tuple(f"{folder}/{i}.jpg" for i, folder in enumerate(folders))
    pictures = np.eye(len(NAMES) + 1)[table.argmax(axis=1)]
    phrases = {name: (name,) for name in NAMES}
    return Lesson("weather", phrases, files, pictures, table, np.zeros(len(shows), np.intp))


def rows(phrases):
    return np.eye(len(NAMES) + 1)[[NAMES.index(phrase) for phrase in phrases]].astype(np.float32)


MIXED = lesson([["fog"]] * 20 + [["rain"]] * 20, ["a/one"] * 10 + ["b/two"] * 20 + ["c/three"] * 10)


def test_halves_and_sources_ask_about_every_picture_once():
    asked: dict[str, list[np.ndarray]] = {}
    for split, (part,) in conditions.splits([MIXED]):
        asked.setdefault(split, []).append(part)
    assert np.sum(asked["other half"], axis=0).tolist() == [1] * 40
    # The source that is half of the group would leave too little to teach with.
    assert np.sum(asked["other sources"], axis=0).tolist() == [1] * 10 + [0] * 20 + [1] * 10


def test_a_source_is_asked_whole():
    for split, (part,) in conditions.splits([MIXED]):
        if split == "other sources" and part.any():
            kept = {conditions.source_of(f) for f, k in zip(MIXED.files, part, strict=True) if k}
            left = {conditions.source_of(f) for f, k in zip(MIXED.files, ~part, strict=True) if k}
            assert not kept & left


def test_a_false_alarm_is_counted_on_pictures_that_show_one_of_several():
    answers = conditions.Answers({})
    several = lesson([["fog"]] * 10 + [["fog", "clear weather"]] * 10, ["a/one"] * 20)
    conditions.ask(several, rows, {"fog": ("fog",), "rain": ("rain",)}, answers)
    assert answers.found("fog") == (1.0, 1.0)
    assert answers.right() == 1.0


def test_pictures_of_none_of_the_names_are_not_asked_about():
    answers = conditions.Answers({})
    conditions.ask(lesson([[]] * 10, ["a/one"] * 10), rows, {n: (n,) for n in NAMES}, answers)
    assert answers.won == {}


def test_an_answer_counts_for_the_label_that_the_name_means():
    asked = shipped_conditions.Asked.of(
        lesson([["sunny"]] * 4 + [["sunny", "clear weather"]] * 2 + [["fog"]] * 4, ["a/one"] * 10)
    )
    assert asked.right == ["clear weather"] * 6 + ["fog"] * 4
    mean, found = asked.score(lambda pictures: ["clear weather"] * len(pictures))
    assert mean == 0.5
    assert found == {"clear weather": (1.0, 1.0), "fog": (0.0, 0.0)}


def test_a_picture_of_several_labels_is_no_false_alarm_of_any():
    asked = shipped_conditions.Asked.of(
        lesson([["fog"]] * 2 + [["clear weather", "cloudy"]] * 2, ["a/one"] * 4)
    )
    assert asked.right == ["fog", "fog", None, None]


def test_the_best_name_is_the_answer_and_its_label_is_said():
    labels = shipped_conditions.ASKED["weather"]
    answer = shipped_conditions.by_phrases({name: rows([name])[0] for name in NAMES}, labels)
    assert answer(lesson([["sunny"], ["rain"]], ["a/one"] * 2).pictures) == [
        "clear weather",
        "rain",
    ]


def test_names_that_no_other_picture_taught_are_not_asked_about():
    half = lesson([["fog"]] * 8 + [["rain"]] * 7 + [["sunny", "rain"]] * 9, ["a/one"] * 24)
    assert conditions.learnt(half) == {"fog"}
