"""How often a camera is labelled: as asked, less on a hot CPU, never so seldom that a watchdog or a reader worries."""

from __future__ import annotations

import pytest

from edge_runtime.config import CameraConfig
from edge_runtime.daemon.service import frame_interval_s


@pytest.mark.parametrize(
    ("fps", "max_fps", "slowed", "seconds"),
    [
        (30, None, 1, 0.0),  # as fast as it goes
        (30, None, 2, 2 / 30),
        (30, 4, 1, 0.25),
        (30, 4, 2, 0.25),  # the cap leaves out more than the heat asks for
        (30, 4, 8, 8 / 30),
    ],
)
def test_the_longer_of_cap_and_heat_counts(
    fps: int, max_fps: float | None, slowed: int, seconds: float
):
    assert frame_interval_s(CameraConfig(fps=fps, max_fps=max_fps), slowed) == pytest.approx(
        seconds
    )


def test_a_cap_leaves_a_record_a_second_even_on_the_hottest_cpu():
    assert frame_interval_s(CameraConfig(max_fps=1), slowed=8) == 1.0
    with pytest.raises(ValueError, match=r"camera.max_fps must be between 1 and 240"):
        CameraConfig(max_fps=0.5)
