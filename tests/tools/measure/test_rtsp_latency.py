"""The table of an RTSP camera's delay compares ways to open the same real stream."""

from __future__ import annotations

from tests.doubles.rtsp_server import need_rtsp_server
from tools.measure import rtsp_latency


def test_every_way_to_open_the_stream_is_measured() -> None:
    need_rtsp_server()
    head, _rule, *rows = rtsp_latency.measure(seconds=0.5).splitlines()
    assert head == "| ms | first picture | median | oldest |"
    assert len(rows) == 5
    first_picture = {row.split(" | ")[0].strip("| "): int(row.split(" | ")[1]) for row in rows}
    assert first_picture["rtsp_transport: tcp"] < first_picture["as it was"]
