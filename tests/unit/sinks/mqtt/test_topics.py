"""Every label gets one topic, and no two share it."""

from __future__ import annotations

import pytest

from edge_runtime.sinks.mqtt.topics import topic_level


@pytest.mark.fault("N4")
@pytest.mark.parametrize(
    "name", ["a/b", "#", "+", "c++", "wet\nroad", "\x1b[31m", '"quoted"', "$SYS", "日本語", "ÄÖ"]
)
def test_a_hostile_label_name_is_one_plain_topic_level(name: str):
    level = topic_level(name)
    assert level
    assert all(c.isascii() and (c.isalnum() or c in "-_") for c in level)


def test_label_names_never_share_a_topic():
    names = ["a b", "a-b", "a/b", "a+b", "A  B?", "a_b", "日本", "日本語", "c", "c++", "C#"]
    assert len({topic_level(name) for name in names}) == len(names)
    assert topic_level("Snowy road") == "snowy-road"
