"""A camera that repeats its picture is told from one that sees nothing move."""

from __future__ import annotations

import numpy as np
import pytest

from edge_runtime.camera.repeats import RepeatCounter


@pytest.mark.fault("C4")
def test_equal_bytes_count_and_one_other_byte_starts_anew():
    repeats = RepeatCounter()
    frames = [np.zeros((480, 640, 2), np.uint8) for _ in range(4)]
    assert [repeats(f) for f in frames] == [0, 1, 2, 3]
    last = np.zeros((480, 640, 2), np.uint8)
    last[301, 77, 1] = 1
    assert repeats(last) == 0
    assert repeats(np.zeros((240, 320, 2), np.uint8)) == 0
