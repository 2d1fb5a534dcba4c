"""Entries of recipes: globs and conditions, and parts of the pictures that never mix."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from edge_runtime.errors import DataError, NoInputError
from tools.factory.data import entries


@pytest.fixture
def data(tmp_path):
    folder = tmp_path / "pack" / "road"
    folder.mkdir(parents=True)
    for number in range(50):
        cv2.imwrite(str(folder / f"{number}.png"), np.full((8, 8, 3), number, np.uint8))
    (folder / "notes.txt").write_text("no picture")
    return tmp_path


def test_the_parts_hold_every_picture_once_and_depend_on_the_name_alone(data):
    entry = "pack/road/*"
    parts = [
        set(entries.files_of_entry(entry, data, 100, part))
        for part in (entries.TEACH, entries.CALIBRATE, entries.ASK)
    ]
    assert len(set.union(*parts)) == sum(map(len, parts)) == 50
    assert all(parts)
    assert entries.part_of("pack/road/1.png") == entries.part_of("pack/road/1.png")


def test_at_most_so_many_pictures_are_taken_spread_over_all(data):
    files = entries.files_of_entry("pack/road/*", data, 5)
    everything = entries.files_of_entry("pack/road/*", data, 100)
    assert len(files) == 5
    assert files[0] == everything[0]
    assert files[-1] == everything[-1]


def test_a_condition_changes_the_pictures_the_same_way_each_time(data):
    entry = {"condition": "fog", "of": "pack/road/*"}
    files = entries.files_of_entry(entry, data, 3)
    one, two = (entries.pictures_of_files(entry, files) for _ in range(2))
    assert all(np.array_equal(a, b) for a, b in zip(one, two, strict=True))
    plain = entries.pictures_of_files("pack/road/*", files)
    assert not any(np.array_equal(a, b) for a, b in zip(one, plain, strict=True))


def test_an_entry_without_pictures_says_what_to_unpack(data):
    with pytest.raises(NoInputError, match=r"no pictures for pack/hail/\*; unzip distill\.zip"):
        entries.files_of_entry("pack/hail/*", data, 5)


def test_an_unknown_condition_is_one_line(data):
    files = entries.files_of_entry("pack/road/*", data, 1)
    with pytest.raises(DataError, match="no condition 'frogs'"):
        entries.condition_pictures(files, "frogs")
