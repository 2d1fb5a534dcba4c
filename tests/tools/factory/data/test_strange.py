"""Strange views are drawn from a number, and bare surfaces are found in photographs."""

import numpy as np
import pytest

from tools.factory.data.strange import DRAWN, MADE, smoothest_window


@pytest.mark.parametrize("kind", DRAWN)
def test_a_number_is_always_the_same_picture_and_another_number_another_one(kind):
    first, again, other = (DRAWN[kind](np.random.default_rng(n)) for n in (1, 1, 2))
    assert first.dtype == np.uint8
    assert first.shape == (240, 320, 3)
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


@pytest.mark.parametrize("kind", MADE)
def test_a_photograph_loses_what_is_in_it(kind):
    photograph = np.random.default_rng(0).integers(0, 255, (90, 120, 3)).astype(np.uint8)
    made = MADE[kind](photograph, np.random.default_rng(1))
    assert made.shape == (240, 320, 3)
    assert np.array_equal(made, MADE[kind](photograph, np.random.default_rng(1)))


def test_the_smoothest_window_is_the_bare_surface_and_noise_has_none():
    photograph = np.random.default_rng(0).integers(0, 255, (100, 150, 3)).astype(np.uint8)
    assert smoothest_window(photograph) is None

    photograph[50:, 100:] = 200
    window = smoothest_window(photograph)
    assert window is not None
    assert window.shape == (40, 40, 3)
    assert (window == 200).mean() > 0.9
    assert smoothest_window(photograph, 0.45) is None, "only the upper part is looked at"
