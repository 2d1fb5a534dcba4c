"""Augmentation: a key gives one view; every condition works at every size; stored parameters give
the same view."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("tqdm", reason="needs edge-label[train]")

from tools.factory.data.augment import VIEW, apply_view, draw, geometry_of, whole_picture
from tools.factory.data.conditions import CONDITIONS, NAMES, TEXTS
from tools.factory.recipe import AugmentRecipe

PICTURE = np.random.default_rng(0).integers(0, 256, (48, 48, 3), np.uint8)


def test_the_same_key_gives_the_same_view_and_another_key_another() -> None:
    recipe = AugmentRecipe()
    first, again, other = (draw((1, 2, k), recipe, 32, conditions=True) for k in (3, 3, 4))
    assert first == again
    assert first != other
    assert np.array_equal(apply_view(PICTURE, first, 32), apply_view(PICTURE, again, 32))


def test_a_view_survives_storage(tmp_path_factory: pytest.TempPathFactory) -> None:
    """The student sees the same view as the teacher, bit for bit, after a round trip to disk."""
    views = np.array([draw((7, i), AugmentRecipe(), 32, conditions=True) for i in range(50)], VIEW)
    path = tmp_path_factory.mktemp("views") / "v.npy"
    np.save(path, views)
    for before, after in zip(views, np.load(path, allow_pickle=False), strict=True):
        assert np.array_equal(apply_view(PICTURE, before, 32), apply_view(PICTURE, after, 32))


def test_the_whole_picture_is_left_alone() -> None:
    assert np.array_equal(apply_view(PICTURE, whole_picture(), 48), PICTURE)


def test_geometry_keeps_crop_and_flip_only() -> None:
    view = draw((5,), AugmentRecipe(flip_probability=1), 32, conditions=True)
    plain = geometry_of(view)
    assert np.array_equal(plain["box"], view["box"])
    assert plain["flip"]
    assert (plain["condition"], plain["small"], plain["jpeg"]) == (0, 0, 0)


def test_conditions_come_only_where_they_are_allowed() -> None:
    recipe = AugmentRecipe(conditions=1)
    assert all(draw((i,), recipe, 32, conditions=False)["condition"] == 0 for i in range(50))
    drawn = {int(draw((i,), recipe, 32, conditions=True)["condition"]) for i in range(300)}
    assert drawn == set(range(1, len(NAMES)))


@pytest.mark.parametrize("name", CONDITIONS)
@pytest.mark.parametrize("side", [16, 33, 128])
def test_every_condition_changes_a_picture_of_any_size(name: str, side: int) -> None:
    picture = np.random.default_rng(1).integers(40, 200, (side, side, 3), np.uint8)
    for strength in (0.0, 1.0):
        shown = CONDITIONS[name](picture.copy(), strength, np.random.default_rng(2))
        assert shown.shape == picture.shape
        assert shown.dtype == np.uint8
    assert np.abs(shown.astype(int) - picture).mean() > 3
    assert TEXTS[name]


def test_night_is_dark_fog_is_pale_and_both_keep_their_texts() -> None:
    day = np.full((64, 64, 3), 150, np.uint8)
    rng = np.random.default_rng(0)
    assert CONDITIONS["night"](day, 0.5, rng).mean() < 70
    assert CONDITIONS["fog"](day, 1.0, rng).std() < CONDITIONS["fog"](PICTURE, 0.0, rng).std()
    assert tuple(TEXTS) == NAMES
