"""Changes reach the sink at most four times a second, a record without news once a second."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from edge_runtime.records import Frame, LabelledFrame
from edge_runtime.sinks.mqtt import pace as pace_module
from edge_runtime.sinks.mqtt.pace import Pace
from tests.unit.sinks.mqtt.test_sink import NAMES, of
from tests.unit.test_records import record


def test_a_label_that_flaps_is_published_at_most_four_times_a_second(
    monkeypatch: pytest.MonkeyPatch,
):
    clock = SimpleNamespace(s=1000.0)
    monkeypatch.setattr(pace_module, "time", SimpleNamespace(monotonic=lambda: clock.s))
    pace = Pace(lambda: NAMES)
    chosen = []
    for i in range(64):
        if pace.choose(LabelledFrame(of(NAMES[i % 2], i))):
            chosen.append(i)
        clock.s += 1 / 64
    assert chosen == [0, 17, 34, 51], "at 16 it is what was handed on last"


def test_a_record_without_news_goes_to_the_sink_once_a_second(monkeypatch: pytest.MonkeyPatch):
    """So that a broker that is back is noticed, and ``every_s`` kept."""
    clock = SimpleNamespace(s=1000.0)
    monkeypatch.setattr(pace_module, "time", SimpleNamespace(monotonic=lambda: clock.s))
    pace = Pace(lambda: NAMES)
    chosen = []
    for i in range(320):
        if pace.choose(LabelledFrame(of("tunnel", i))):
            chosen.append(i)
        clock.s += 1 / 64
    assert chosen == [0, 64, 128, 192, 256]


def test_a_change_that_a_full_queue_lost_is_told_again(monkeypatch: pytest.MonkeyPatch):
    clock = SimpleNamespace(s=1000.0)
    monkeypatch.setattr(pace_module, "time", SimpleNamespace(monotonic=lambda: clock.s))
    pace = Pace(lambda: NAMES)
    item = pace.choose(LabelledFrame(of("tunnel", 0)))
    assert item == (of("tunnel", 0), NAMES, None)
    clock.s += 0.3
    assert pace.choose(LabelledFrame(of("tunnel", 1))) is None
    pace.dropped(*item)
    assert pace.choose(LabelledFrame(of("tunnel", 2))) is not None


def test_a_picture_goes_to_the_sink_at_most_every_picture_s(monkeypatch: pytest.MonkeyPatch):
    clock = SimpleNamespace(s=1000.0)
    monkeypatch.setattr(pace_module, "time", SimpleNamespace(monotonic=lambda: clock.s))
    frame = Frame(np.zeros((2, 2), np.uint8), "grey", 0.0, 0.0)
    pace = Pace(lambda: NAMES, picture_s=2.5)
    chosen = []
    for i in range(640):
        item = pace.choose(LabelledFrame(of(NAMES[i // 64 % 2], i), frame))
        if item and item[2] is frame:
            chosen.append(clock.s - 1000)
        clock.s += 1 / 64
    assert chosen == [0, 3, 6, 9], "a record is looked at once a second where nothing changes"
    assert Pace(lambda: NAMES).choose(LabelledFrame(of("tunnel"), frame))[2] is None


@pytest.mark.parametrize("state", ["frozen", "invalid", "stale"])
def test_what_the_camera_does_not_see_now_is_no_present_picture(state: str):
    frame = Frame(np.zeros((2, 2), np.uint8), "grey", 0.0, 0.0)
    pace = Pace(lambda: NAMES, picture_s=1)
    assert pace.choose(LabelledFrame(record(state=state), frame))[2] is None


def test_a_picture_that_a_full_queue_lost_is_taken_again(monkeypatch: pytest.MonkeyPatch):
    clock = SimpleNamespace(s=1000.0)
    monkeypatch.setattr(pace_module, "time", SimpleNamespace(monotonic=lambda: clock.s))
    frame = Frame(np.zeros((2, 2), np.uint8), "grey", 0.0, 0.0)
    pace = Pace(lambda: NAMES, picture_s=60)
    item = pace.choose(LabelledFrame(of("tunnel"), frame))
    pace.dropped(*item)
    clock.s += 1
    assert pace.choose(LabelledFrame(of("tunnel"), frame))[2] is frame
