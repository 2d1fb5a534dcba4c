"""The pictures of a group: what counts as a right answer, and what they may teach."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edge_runtime.commands import lesson as module
from edge_runtime.commands.lesson import GroupLesson, Seen, digests_of, teach_group
from edge_runtime.commands.teaching_pictures import TeachingPicture
from edge_runtime.errors import DataError
from edge_runtime.model.bundle import Bundle, load_bundle
from edge_runtime.model.labels.compiled import compile_labels
from edge_runtime.model.labels.label_set import LabelSet, parse_label_set
from edge_runtime.model.labels.taught import NONE, TaughtGroup
from edge_runtime.model.labels.text_bank import TextBank

TEXT = """\
labels: [red, blue, {name: green, background: true}]
background: [grey]
"""
RED, GREEN, BLUE, GREY = range(4)  # the axes of the tiny bundle


@pytest.fixture
def bundle(tiny_bundle: Path) -> Bundle:
    return load_bundle(tiny_bundle)


def seen(number: int, axis: int, *labels: str) -> Seen:
    """A picture near an axis; each number gives another one."""
    embedding = np.full(16, 0.01 * number, np.float32)
    embedding[axis] = 1
    embedding /= np.linalg.norm(embedding)
    return Seen(TeachingPicture(Path(f"{number}.jpg"), labels), embedding, f"{number:064}")


def lesson(bundle: Bundle, pictures: list[Seen], text: str = TEXT) -> tuple[LabelSet, GroupLesson]:
    label_set = parse_label_set(text, "x")
    words = compile_labels(label_set, bundle, TextBank.from_bundle(bundle))
    return label_set, GroupLesson(words, 0, pictures)


def taught(bundle: Bundle, pictures: list[Seen], text: str = TEXT) -> TaughtGroup:
    mean = TextBank.from_bundle(bundle).rows.mean(axis=0, dtype=np.float32)
    label_set, own = lesson(bundle, pictures, text)
    return teach_group(own, label_set, bundle, mean)


def test_background_prompts_and_background_labels_answer_none_of_these_rightly(bundle: Bundle):
    pictures = [
        seen(1, RED, "red"),
        seen(2, BLUE, "red"),
        seen(3, GREY, NONE),
        seen(4, GREEN, NONE),
        seen(5, RED, NONE),
        seen(6, GREEN, "green"),
    ]
    _, own = lesson(bundle, pictures)
    assert own.words_right() == 4  # not the blue picture of red, and not the red one of none


def test_a_picture_that_comes_twice_teaches_once(bundle: Bundle):
    one = seen(1, RED, "red")
    _, own = lesson(bundle, [one, one, seen(2, BLUE, "blue")])
    assert own.truth.tolist() == [0, 1]


def test_the_digests_are_those_of_the_pictures_that_taught(bundle: Bundle):
    _, own = lesson(bundle, [seen(1, RED, "red"), seen(2, BLUE, "blue"), seen(3, GREY, NONE)])
    assert digests_of([own]) == {"red": (f"{1:064}",), "blue": (f"{2:064}",), NONE: (f"{3:064}",)}

    _, alone = lesson(bundle, [seen(1, RED, "red")])
    assert not alone.can_teach
    assert digests_of([alone]) == {}


def test_held_out_answers_are_counted_by_name_and_sum_to_the_pictures(bundle: Bundle):
    pictures = [
        seen(i, axis, name)
        for i, (axis, name) in enumerate(
            [(RED, "red")] * 4 + [(BLUE, "blue")] * 4 + [(GREY, NONE)] * 4, 1
        )
    ]
    group = taught(bundle, pictures)
    assert group.labels == ("red", "blue", "green", NONE)
    assert group.held_out == 12
    assert group.right == 12
    assert group.words_right == 12
    assert {(label, answer) for label, answer, _ in group.answers} == {
        ("red", "red"),
        ("blue", "blue"),
        (NONE, NONE),
    }


def test_one_picture_of_none_alone_teaches_and_nothing_is_held_out(bundle: Bundle):
    group = taught(bundle, [seen(1, BLUE, NONE)])
    assert group.labels == (NONE,)
    assert group.factor == 1
    assert (group.held_out, group.words_right) == (0, 0)


def test_more_labels_than_can_be_taught_together_are_one_line(bundle: Bundle, monkeypatch):
    monkeypatch.setattr(module, "MOST_LABELS", 3)
    with pytest.raises(DataError, match="group labels: 4 labels and background prompts are more"):
        taught(bundle, [seen(1, RED, "red"), seen(2, BLUE, "blue")])
