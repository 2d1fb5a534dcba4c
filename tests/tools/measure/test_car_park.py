"""The car-park measurement counts what a person saw, and its frames are those it says."""

from __future__ import annotations

import json

import numpy as np
import pytest

from edge_runtime.errors import NoInputError
from edge_runtime.model.bundle import find_bundle, load_bundle
from edge_runtime.model.labels.label_set import load_label_set
from tools.lib.video import frames_of
from tools.measure.car_park import (
    DATA,
    GROUP,
    table,
    truth_of,
    unchanged,
    write_pictures,
    write_set,
)


def test_fifty_frames_were_read_and_none_of_them_teaches():
    data = json.loads(DATA.read_text())
    taught = [number for numbers in data["teach"].values() for number in numbers]
    assert [len(numbers) for numbers in data["teach"].values()] == [8, 8]
    assert len(truth_of(data)) == 50
    assert not set(taught) & truth_of(data).keys()


def test_right_answers_and_nonsense_are_counted_in_the_frames_that_did_not_teach():
    data = {"teach": {"car": [0], "empty": [1]}, "read": {"car": [2], "empty": [3]}}
    before = [["rain"], ["rain"], ["empty", "rain"], ["empty"], ["snow"]]
    after = [["car"], ["empty"], ["car"], ["empty", "rain"], []]
    rows = table(before, after, data, {0, 1}).splitlines()[2:]
    assert rows == [
        "| words only | 1 of 2 | 66.7 % |",
        "| taught | 2 of 2 | 33.3 % |",
    ]
    assert unchanged(before[2:], after[2:], {"car", "empty"}) == pytest.approx(0.0)


def test_the_set_is_road_with_two_labels_more_and_both_kinds_of_folders(tmp_path):
    bundle = load_bundle(find_bundle(None))
    path = write_set(tmp_path, ["car in view", "empty asphalt"], None)
    label_set = load_label_set(str(path), bundle)
    road = load_label_set("road", bundle)
    assert [label.name for label in label_set.labels if label.group == GROUP] == [
        "car in view",
        "empty asphalt",
    ]
    assert label_set.labels[2:] == road.labels
    assert label_set.background == road.background

    frames = [np.full((8, 8, 3), i, np.uint8) for i in range(4)]
    root = write_pictures(tmp_path, frames, {"car in view": [3], "empty asphalt": [1]})
    files = sorted(str(file.relative_to(root)) for file in root.rglob("*.jpg"))
    assert files == [
        "car in view/003.jpg",
        "empty asphalt/001.jpg",
        "none/001.jpg",
        "none/003.jpg",
    ]


def test_a_clip_that_is_not_there_is_one_line(tmp_path):
    with pytest.raises(NoInputError, match="no clip there; unpack"):
        next(frames_of(tmp_path / "none.mp4"))
