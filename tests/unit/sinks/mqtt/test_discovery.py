"""A former run's discovery message is read back; a planted one cannot choose what is deleted."""

from __future__ import annotations

import json

import pytest

from edge_runtime.config import MqttConfig
from edge_runtime.sinks.mqtt.discovery import discovery_message, read_former
from edge_runtime.sinks.mqtt.topics import Topics

PI = MqttConfig(host="127.0.0.1", device="pi")
FORMER = json.dumps(discovery_message(Topics.of(PI), {"cat": "edge-label/pi/label/cat"})).encode()


def test_a_discovery_message_is_read_back():
    former = read_former(FORMER, "pi")
    assert former is not None
    assert former.topics == {
        "edge-label/pi/status",
        "edge-label/pi/state",
        "edge-label/pi/label/cat",
    }
    assert former.components["label_cat"] == "binary_sensor"


@pytest.mark.fault("N7")
@pytest.mark.parametrize(
    "change",
    [
        {"origin": {"name": "zigbee2mqtt"}},
        {"origin": "edge-label"},
        {"origin": None},
        {"device": {"identifiers": ["edge-label-porch"]}},
        {"device": []},
        {"components": [1]},
        {"availability": "x"},
    ],
)
def test_a_discovery_message_of_somebody_else_is_not_ours(change: dict[str, object]):
    assert read_former(json.dumps({**json.loads(FORMER), **change}).encode(), "pi") is None


@pytest.mark.parametrize(
    "payload", [b"", b"{", b"null", b"[]", b"\xff", b"[" * 100_000, b"9" * 5000]
)
def test_a_discovery_message_that_is_none_is_not_ours(payload: bytes):
    assert read_former(payload, "pi") is None


@pytest.mark.fault("N7")
@pytest.mark.parametrize(
    "topic", ["zigbee/lamp/state", "edge-label/other/state", "edge-label/pi/#", "+/pi/state", 7]
)
def test_a_planted_discovery_message_cannot_choose_what_is_deleted(topic: object):
    planted = {**json.loads(FORMER), "state_topic": topic}
    former = read_former(json.dumps(planted).encode(), "pi")
    assert former is not None
    assert topic not in former.topics
