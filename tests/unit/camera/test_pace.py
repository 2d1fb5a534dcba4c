"""A slow camera is given time; a single hiccup changes nothing."""

from __future__ import annotations

import pytest

from edge_runtime.camera.pace import Pace


def test_one_pause_is_no_pace():
    """After a single hiccup, silence is noticed as soon as before."""
    pace = Pace(fps=30, stuck_s=30)
    now = 100.0
    steps = [
        (8.0, 3600.0, 1.0),  # a hiccup, and then an hour of pictures
        (20.0, 3600.0, 1.0),
        (6.0, 0.0, 1.0),
        (6.0, 0.0, 12.0),  # a second silence at once: that is its pace
        (13.0, 3600.0, 24.0),
        (40.0, 0.0, 1.0),  # frozen after all
    ]
    for silent_s, works_s, patience_s in steps:
        now += silent_s
        pace.learn(silent_s, now)
        assert pace.patience_s == patience_s
        now += works_s


@pytest.mark.parametrize(
    ("fps", "silence_s", "patience_s", "stuck_s"),
    [(30.0, 3.0, 1.0, 30.0), (1.0, 3.0, 3.0, 30.0), (0.05, 60.0, 60.0, 120.0)],
)
def test_a_camera_that_is_configured_as_slow_has_the_time_of_three_pictures(
    fps: float, silence_s: float, patience_s: float, stuck_s: float
):
    pace = Pace(fps, stuck_s=30)
    assert (pace.silence_s, pace.patience_s, pace.stuck_s) == pytest.approx(
        (silence_s, patience_s, stuck_s)
    )


def test_a_picture_that_is_announced_for_later_is_not_missed_before():
    pace = Pace(fps=30, stuck_s=30)
    pace.wait_for(10)
    assert pace.patience_s > 10
    pace.wait_for(1)
    assert pace.patience_s > 10
