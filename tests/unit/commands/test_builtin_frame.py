"""The built-in frame is what a camera would send."""

from __future__ import annotations

import numpy as np

from edge_runtime.camera.decode import FULL_SIZE, decode
from edge_runtime.commands.builtin_frame import BuiltinSource, builtin_jpeg


def test_the_built_in_frame_is_as_large_as_a_detailed_camera_frame():
    assert 50_000 < builtin_jpeg().nbytes < 56_000


def test_two_frames_in_a_row_differ_and_the_picture_is_always_the_same():
    source = BuiltinSource()
    assert source.read(1).data.tobytes() != source.read(1).data.tobytes()
    assert builtin_jpeg().tobytes() == builtin_jpeg().tobytes()


def test_the_built_in_frame_can_come_uncompressed_as_the_same_picture():
    jpeg, yuyv = (decode(BuiltinSource(form).read(1), FULL_SIZE) for form in ("mjpg", "yuyv"))
    assert yuyv.shape == jpeg.shape == (480, 640, 3)
    assert np.abs(yuyv.astype(int) - jpeg).mean() < 2
