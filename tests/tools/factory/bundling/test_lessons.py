"""Which pictures teach which rows: every entry has the same say, and what judges never teaches."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import yaml

from edge_runtime.errors import ConfigError, NoInputError
from edge_runtime.model.labels.phrases import bare, normalise
from tools.factory.bundling.lessons import load_lessons, names_of, phrases_of, read_recipe
from tools.factory.data.entries import ASK, CALIBRATE, TEACH
from tools.lib.paths import RECIPES

RECIPE = {
    "weather": {
        "fog": {"phrases": ["a photo of fog", "mist"], "pictures": ["one/fog/*", "two/fog/*"]},
        "rain": {"phrases": ["rain"], "pictures": ["one/rain/*"]},
        "several": [{"of": ["fog", "rain"], "pictures": ["two/grey/*"]}],
        "none": ["two/room/*"],
    }
}
COUNTS = {"one/fog": 40, "two/fog": 10, "one/rain": 30, "two/grey": 5, "two/room": 20}


@pytest.fixture
def data(tmp_path):
    for folder, count in COUNTS.items():
        (tmp_path / folder).mkdir(parents=True)
        for number in range(count):
            picture = np.full((4, 4, 3), number, np.uint8)
            cv2.imwrite(str(tmp_path / folder / f"{number}.png"), picture)
    return tmp_path


def encode(picture):
    return np.eye(1, 8, int(picture[0, 0, 0]) % 8, dtype=np.float32)[0]


def test_every_entry_of_a_name_counts_the_same_however_many_pictures_it_has(data):
    (lesson,) = load_lessons(RECIPE, data, encode)
    weights = lesson.weights()
    by_folder = {
        folder: sum(w for f, w in zip(lesson.files, weights, strict=True) if f.startswith(folder))
        for folder in COUNTS
    }
    assert by_folder["one/fog"] == pytest.approx(0.5)
    assert by_folder["two/fog"] == pytest.approx(0.5)
    assert by_folder["one/rain"] == pytest.approx(1.0)
    assert by_folder["two/grey"] == pytest.approx(0.25)  # few pictures count less


def test_a_lesson_says_what_each_picture_shows(data):
    (lesson,) = load_lessons(RECIPE, data, encode)
    shown = {
        file.rpartition("/")[0]: row.tolist()
        for file, row in zip(lesson.files, lesson.shows, strict=True)
    }
    assert shown["two/fog"] == [True, False, False]
    assert shown["two/grey"] == [True, True, False]
    assert shown["two/room"] == [False, False, True]
    assert lesson.phrases == {"fog": ("fog", "mist"), "rain": ("rain",)}


def test_pictures_that_calibrate_or_judge_never_teach(data):
    parts = [load_lessons(RECIPE, data, encode, part)[0] for part in (TEACH, CALIBRATE, ASK)]
    files = [set(lesson.files) for lesson in parts]
    assert sum(map(len, files)) == sum(COUNTS.values()) == len(set.union(*files))
    assert all(files)


def test_an_entry_without_pictures_is_one_line(data):
    with pytest.raises(NoInputError, match="no pictures for one/hail"):
        load_lessons(
            {"weather": {"hail": {"phrases": ["hail"], "pictures": ["one/hail/*"]}}}, data, encode
        )


def test_a_phrase_that_is_taught_twice_is_refused(tmp_path):
    twice = {
        "a": {"x": {"phrases": ["fog"], "pictures": []}},
        "b": {"y": {"phrases": ["a fog"], "pictures": []}},
    }
    path = tmp_path / "taught.yaml"
    path.write_text(yaml.safe_dump(twice))
    with pytest.raises(ConfigError, match="'fog' is taught twice, again by 'y'"):
        read_recipe(path)


def test_the_phrases_that_judge_are_not_among_those_that_are_taught():
    recipe = read_recipe()
    taught = {p for group in recipe.values() for _, own in names_of(group) for p in phrases_of(own)}
    left_out = yaml.safe_load((RECIPES / "left_out.yaml").read_text())
    for group, names in left_out.items():
        assert set(names) <= set(dict(names_of(recipe[group])))
        judging = {bare(normalise(phrase)) for phrases in names.values() for phrase in phrases}
        assert not judging & taught
