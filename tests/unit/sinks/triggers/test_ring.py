"""The ring holds the last seconds and never more than its cap."""

from __future__ import annotations

from edge_runtime.sinks.triggers.ring import Ring


def test_the_ring_is_bounded_in_bytes_and_seconds():
    ring = Ring(3.0, 1000)
    for i in range(100):
        ring.add(float(i), bytes(300))
        assert ring.bytes <= 1000
    assert [time_s for time_s, _ in ring.since(0)] == [97, 98, 99]
    ring = Ring(3.0, 1e9)
    for i in range(100):
        ring.add(float(i), b"x")
    assert [time_s for time_s, _ in ring.since(0)] == [96, 97, 98, 99]
