"""How often a camera is labelled: as configured, and less often on a hot CPU."""

from __future__ import annotations

import pytest

from edge_runtime.config import CameraConfig
from edge_runtime.daemon.thermal import ThermalGovernor, frame_interval_s


@pytest.mark.fault("P5")
def test_heat_is_shed_one_step_at_a_time_and_taken_back_when_it_is_cooler():
    governor = ThermalGovernor(80.0)
    readings = [
        (0, 70, 1),
        (1, 81, 2),
        (2, 81, 2),
        (12, 81, 4),
        (23, 85, 8),
        (40, 90, 8),
        (41, 78, 8),
        (51, 74, 4),
    ]
    readings += [(52, 74, 4), (62, 74, 2), (73, 60, 1), (99, 20, 1)]

    assert [governor(temp, now) for now, temp, _ in readings] == [factor for *_, factor in readings]


def test_without_a_thermometer_or_a_limit_nothing_is_slowed():
    assert ThermalGovernor(80.0)(None, 1.0) == 1
    assert ThermalGovernor(None)(150.0, 1.0) == 1


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
