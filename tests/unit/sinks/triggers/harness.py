"""Records, frames and rules for the tests of the triggers."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from edge_runtime.camera.jpeg import JpegEncoder
from edge_runtime.config import Condition, TriggerRule, TriggersConfig
from edge_runtime.records import Frame, LabelledFrame, LabelScore
from edge_runtime.sinks.thread import SinkThread
from edge_runtime.sinks.triggers.rules import Rules
from edge_runtime.sinks.triggers.sink import TriggerSink
from tests.unit.test_records import record

NAMES = ("snowy road", "tunnel")


def scores(**values: float) -> tuple[LabelScore, ...]:
    return tuple(
        LabelScore(name.replace("_", " "), value, 0.1, value >= 0.5)
        for name, value in values.items()
    )


def at(seconds: float, **values: float):
    """A record and a bgr frame at ``seconds``; the shade of the frame tells when it was taken."""
    labels = scores(**values)
    state = "ok" if any(label.on for label in labels) else "unknown"
    shade = int(seconds * 10) % 250
    frame = Frame(np.full((48, 64, 3), shade, np.uint8), "bgr", 100 + seconds, 0.0)
    return record(
        labels=labels, state=state, mono_s=100 + seconds, time="2026-05-02T09:13:07.412Z"
    ), frame


def rule(**settings: object) -> TriggerRule:
    settings.setdefault("name", "snow")
    settings.setdefault("when", Condition(label="snowy road"))
    settings.setdefault("min_interval_s", 0.0)
    return TriggerRule(**settings)  # type: ignore[arg-type]


class Both:
    """The rules and the sink, one after the other in one thread."""

    def __init__(self, config: TriggersConfig) -> None:
        self.rules = Rules(config, NAMES)
        self.sink = TriggerSink(config, JpegEncoder())
        self.close = self.sink.close

    def thread(self, *, lossless: bool) -> SinkThread:
        return SinkThread(self.sink, pictures=True, chooser=self.rules, lossless=lossless)


def feed(both: Both, made, frame, embedding: np.ndarray | None = None) -> None:
    item = both.rules.choose(LabelledFrame(made, frame, embedding))
    if item is not None:
        both.sink.write(*item)


def make(tmp_path: Path, *rules: TriggerRule, **settings: object) -> Both:
    spool = str(tmp_path / "spool")
    return Both(TriggersConfig(spool=spool, rules=rules, **settings))  # type: ignore[arg-type]


def sidecars(tmp_path: Path) -> list[dict]:
    return [json.loads(path.read_text()) for path in sorted((tmp_path / "spool").glob("*.json"))]


def script(tmp_path: Path, body: str) -> str:
    path = tmp_path / "hook.sh"
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)
    return str(path)
