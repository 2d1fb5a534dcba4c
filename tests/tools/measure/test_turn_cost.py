"""The table of what a turned camera costs has every turn and every use of a frame."""

from __future__ import annotations

from tools.measure import turn_cost


def test_every_turn_is_measured_for_every_use_of_a_frame() -> None:
    head, _rule, *rows = turn_cost.measure(rounds=2).splitlines()
    assert head == (
        "| ms for a frame | decode MJPG | decode YUYV | picture of MJPG | picture of YUYV |"
    )
    assert [row.split(" | ")[0].strip("| ") for row in rows] == list(turn_cost.TURNS)
    for row in rows:
        assert all(float(cell) >= 0 for cell in row.strip("| ").split(" | ")[1:])
