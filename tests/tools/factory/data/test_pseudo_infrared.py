"""Pseudo-infrared keeps what is where, and leaves open what is bright."""

from __future__ import annotations

import cv2
import numpy as np

from tools.factory.data.pseudo_infrared import pseudo_infrared

DRAWS = 40


def scene() -> np.ndarray:
    """A red disc on green ground under a blue sky."""
    picture = np.zeros((96, 128, 3), np.uint8)
    picture[:48], picture[48:] = (90, 140, 230), (60, 160, 70)
    cv2.circle(picture, (64, 60), 20, (200, 60, 50), -1)
    return picture


def drawn() -> list[np.ndarray]:
    return [pseudo_infrared(scene(), np.random.default_rng(i)) for i in range(DRAWS)]


def test_it_is_one_channel_of_the_same_size_and_the_same_for_the_same_draw():
    first = pseudo_infrared(scene(), np.random.default_rng(3))
    assert first.shape == (96, 128)
    assert first.dtype == np.uint8
    np.testing.assert_array_equal(first, pseudo_infrared(scene(), np.random.default_rng(3)))


def test_no_two_draws_are_alike_and_either_side_may_be_the_brighter():
    pictures = drawn()
    assert len({p.tobytes() for p in pictures}) == DRAWS
    warmer = [int(p[58:62, 60:68].mean()) - int(p[80:90, 100:120].mean()) for p in pictures]
    assert sum(d > 20 for d in warmer) >= DRAWS // 8
    assert sum(d < -20 for d in warmer) >= DRAWS // 8


def test_edges_stay_where_they_were():
    edges = cv2.Canny(cv2.cvtColor(scene(), cv2.COLOR_RGB2GRAY), 20, 60) > 0
    near = cv2.dilate(edges.astype(np.uint8), np.ones((5, 5))) > 0
    for picture in drawn():
        smooth = cv2.GaussianBlur(picture, (0, 0), 1.5).astype(np.float32)
        steep = np.abs(cv2.Sobel(smooth, cv2.CV_32F, 1, 0)) + np.abs(
            cv2.Sobel(smooth, cv2.CV_32F, 0, 1)
        )
        assert steep[near].mean() > 1.5 * steep[~near].mean()


def test_a_flat_picture_divides_by_nothing():
    for value in (0, 128, 255):
        made = pseudo_infrared(np.full((32, 32, 3), value, np.uint8), np.random.default_rng(value))
        assert made.shape == (32, 32)
