"""A stream learns how much time its camera needs; tests/faults/test_streams.py has real ones."""

from __future__ import annotations

from edge_runtime.camera.stream import Stream
from edge_runtime.config import CameraConfig


def test_a_snapshot_address_is_fetched_as_seldom_as_asked():
    assert Stream("http://h/x", CameraConfig()).interval_s == 1
    assert Stream("http://h/x", CameraConfig(fps=0.1)).interval_s == 10
    assert Stream("http://h/x", CameraConfig(max_fps=2)).interval_s == 1


def test_a_connection_that_brings_little_in_time_gives_the_next_one_twice_the_time():
    stream = Stream("http://h/x", CameraConfig())
    steps = [
        (0, 4.0, 4.0, 8.0),  # nothing at all within the limit
        (1, 9.0, 8.0, 16.0),  # one picture, then silence
        (0, 16.0, 16.0, 24.0),  # never as long as the thread may be stuck
        (0, 24.0, 24.0, 24.0),
        (0, 0.1, 0.1, 24.0),  # refused at once: says nothing of its pace
        (600, 3600.0, 24.0, 24.0),  # slow all the time
        (300, 10.0, 24.0, 4.0),  # fast, and then stalled: noticed soon
        (300, 10.0, 4.0, 4.0),
    ]
    for pictures, lasted_s, silent_s, limit_s in steps:
        stream.ended(pictures, lasted_s, silent_s)
        assert stream.limit_s == limit_s
