"""Pictures move the rows of a name, all its phrases alike, and only as far as there is reason."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("torch", reason="the [train] extra is not installed")

from tools.factory.bundling.lessons import Lesson
from tools.factory.bundling.taught import rivals_of, taught_rows

DIM = 16
SCALE = 30.0


def row(*places: int) -> np.ndarray:
    """The unit vector that points along these axes alike."""
    vector = np.zeros(DIM)
    vector[list(places)] = 1
    return vector / np.linalg.norm(vector)


TEXT = {"fog": row(0), "mist": row(0, 8), "rain": row(1), "hail": row(2)}
RIVALS = np.stack([row(9, 10), row(10, 11), row(11, 12)])


def text(phrases):
    return np.stack([TEXT[phrase] for phrase in phrases])


def lesson(pictures: list[np.ndarray], shows: list[list[int]]) -> Lesson:
    """Names fog (fog, mist), rain and hail; shows: columns of each picture, 3 for none."""
    phrases = {"fog": ("fog", "mist"), "rain": ("rain",), "hail": ("hail",)}
    table = np.zeros((len(pictures), 4), bool)
    for picture, columns in enumerate(shows):
        table[picture, columns] = True
    files = tuple(f"pack/{i}.jpg" for i in range(len(pictures)))
    entries = table.argmax(axis=1).astype(np.intp)
    return Lesson("weather", phrases, files, np.stack(pictures), table, entries)


# This encoder shows fog along axis 4 and rain along axis 5, where no word points.
PICTURES = [row(4, 9)] * 20 + [row(5, 9)] * 20
SHOWS = [[0]] * 20 + [[1]] * 20


def test_a_taught_row_wins_pictures_that_its_words_lose():
    both = lesson(PICTURES, SHOWS)
    taught = taught_rows([both], text, RIVALS, SCALE)
    for pictures, own, other in ((PICTURES[0], "fog", "rain"), (PICTURES[-1], "rain", "fog")):
        assert pictures @ TEXT[own] == pytest.approx(pictures @ TEXT[other])
        assert pictures @ taught[own] > pictures @ taught[other] + 0.05


def test_taught_rows_are_unit_norm_and_the_same_again():
    one, two = (taught_rows([lesson(PICTURES, SHOWS)], text, RIVALS, SCALE) for _ in range(2))
    assert all(np.array_equal(one[name], two[name]) for name in one)
    assert np.allclose([np.linalg.norm(vector) for vector in one.values()], 1, atol=1e-6)


def test_all_phrases_of_a_name_move_by_one_step():
    taught = taught_rows([lesson(PICTURES, SHOWS)], text, RIVALS, SCALE)
    assert taught["mist"] @ row(4) > TEXT["mist"] @ row(4) + 0.05
    # Before they are made unit norm again, both moved by the same: the difference stays in line.
    gap = taught["fog"] - taught["mist"]
    assert abs(gap @ row(4)) < 0.02


def test_a_name_without_pictures_has_no_taught_row():
    assert "hail" not in taught_rows([lesson(PICTURES, SHOWS)], text, RIVALS, SCALE)


def test_strong_words_stay_where_they_are():
    taught = taught_rows([lesson(PICTURES, SHOWS)], text, RIVALS, SCALE, strength=1e6)
    assert taught["fog"] @ TEXT["fog"] > 0.9999


def test_pictures_of_none_of_the_names_go_to_the_rivals():
    """What shows nothing of the group looks a little like fog to this encoder."""
    nothing = row(0, 4, 10)
    plain = taught_rows([lesson(PICTURES, SHOWS)], text, RIVALS, SCALE)
    with_none = taught_rows(
        [lesson([*PICTURES, *[nothing] * 20], [*SHOWS, *[[3]] * 20])], text, RIVALS, SCALE
    )
    assert nothing @ with_none["fog"] < nothing @ plain["fog"] - 0.02
    assert PICTURES[0] @ with_none["fog"] > PICTURES[0] @ with_none["rain"]


def test_a_picture_of_one_of_several_names_teaches_none_of_them_apart():
    several = lesson([row(4, 9)] * 20, [[0, 1]] * 20)
    assert taught_rows([several], text, RIVALS, SCALE) == {}


def test_rivals_are_names_that_nobody_teaches():
    exact = {name: row(i).astype(np.float32) for i, name in enumerate("abcdefgh")}
    rivals = rivals_of(exact, {"a", "c"})
    assert len(rivals) == 6
    assert not (rivals @ exact["a"]).any()
