"""The demo is a camera: paced, moving, of the configured size, and the same every time."""

from __future__ import annotations

import numpy as np

from edge_runtime.camera.demo import DemoCamera
from edge_runtime.config import CameraConfig


def test_two_demos_show_the_same_moving_picture():
    config = CameraConfig(source="demo", width=160, height=120, fps=200)
    first = DemoCamera(config)
    second = DemoCamera(config)
    frames = [first.grab() for _ in range(5)]
    assert all(frame.data.shape == (120, 160, 3) for frame in frames)
    assert all(np.array_equal(frame.data, second.grab().data) for frame in frames)
    assert not np.array_equal(frames[0].data, frames[4].data)


def test_a_demo_is_no_faster_than_configured():
    camera = DemoCamera(CameraConfig(source="demo", width=160, height=120, fps=50))
    times = [camera.grab().captured_s for _ in range(6)]
    assert times[-1] - times[0] >= 5 / 50 - 0.02
