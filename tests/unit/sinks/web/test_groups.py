"""Every group of the label set has its place on the page."""

from __future__ import annotations

from dataclasses import replace

from edge_runtime.model.labels.label_set import LabelSpec
from edge_runtime.sinks.web.groups import BEST, MAX_GROUPS, shown_groups
from tests.unit.sinks.web.test_preview import ROAD, scorer, seen


def test_a_group_is_there_also_if_the_record_has_none_of_its_labels():
    road = scorer(*ROAD)
    newest = seen(road, 5, 1)
    only_surface = tuple(label for label in newest.record.labels if "road" in label.name)
    newest = replace(newest, record=replace(newest.record, labels=only_surface))
    groups = shown_groups(newest, road)
    assert [group["name"] for group in groups] == ["surface", "weather"]
    assert [label["name"] for label in groups[1]["labels"]] == ["fog", "rain"]
    assert groups[1]["labels"][0]["threshold"] == 0.9


def test_scores_and_margins_are_those_of_the_record():
    road = scorer(*ROAD)
    newest = seen(road, 5, 1, 2, 1, on=("dry road",))
    shown = {
        label["name"]: label for group in shown_groups(newest, road) for label in group["labels"]
    }
    for label in newest.record.labels:
        assert shown[label.name]["score"] == label.score
        assert shown[label.name]["margin"] == label.margin
        assert shown[label.name]["on"] == label.on


def test_the_best_are_shown_and_what_is_on_and_no_background():
    many = scorer(*(LabelSpec(f"label {i}") for i in range(6)), LabelSpec("usual", background=True))
    newest = seen(many, 6, 5, 4, 3, 2, 1, 9, on=("label 5",))
    (group,) = shown_groups(newest, many)
    names = [label["name"] for label in group["labels"]]
    assert names == ["label 0", "label 1", "label 2", "label 5"]
    assert len(names) == BEST + 1


def test_a_set_of_many_groups_is_cut_and_other_labels_give_none():
    many = scorer(*(LabelSpec(f"label {i}", group=f"group {i:03}") for i in range(8)))
    newest = seen(many, 1, on=())
    assert len(shown_groups(newest, many)) == 8 <= MAX_GROUPS
    assert shown_groups(newest, scorer(*ROAD)) == []
    assert shown_groups(replace(newest, embedding=None), many) == []
