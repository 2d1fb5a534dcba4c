"""A reload builds new parts beside the old ones, shares what stays, and leaves nothing open."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from edge_runtime.camera import open_source
from edge_runtime.config import CameraConfig, Config, ModelConfig, OutputConfig
from edge_runtime.daemon import parts as module
from edge_runtime.daemon.parts import Parts, build_beside, close_sinks
from edge_runtime.engine import load_engine
from edge_runtime.errors import ConfigError, NoInputError


class Sinks:
    """Stands in for `open_sinks`: counts its calls, and can refuse."""

    def __init__(self) -> None:
        self.calls = 0
        self.error: Exception | None = None

    def __call__(self, *_: object) -> list:
        self.calls += 1
        if self.error:
            raise self.error
        return []


@pytest.fixture
def sinks() -> Sinks:
    return Sinks()


@pytest.fixture
def old(tiny_bundle: Path) -> Parts:
    model = ModelConfig(bundle=str(tiny_bundle), labels="colours", threads=1)
    config = Config(camera=CameraConfig("demo"), model=model)
    return Parts(config, load_engine(model), open_source(config.camera), None, [])


def test_what_stays_the_same_is_not_built_again(old: Parts, sinks: Sinks):
    config = replace(old.config, model=replace(old.config.model, top_k=1))
    engine = load_engine(config.model, old.engine)
    new = build_beside(old, config, engine, sinks)
    assert new.source is old.source
    assert new.sinks is old.sinks
    assert new.engine is engine
    assert new.engine.encode is old.engine.encode
    assert sinks.calls == 0


def test_another_output_gets_new_sinks_and_keeps_the_camera(old: Parts, sinks: Sinks):
    config = replace(old.config, output=OutputConfig(stdout=True))
    new = build_beside(old, config, old.engine, sinks)
    assert new.source is old.source
    assert new.sinks is not old.sinks
    assert sinks.calls == 1


def test_a_new_source_is_closed_again_where_the_sinks_cannot_be_opened(
    old: Parts, sinks: Sinks, monkeypatch: pytest.MonkeyPatch
):
    opened = []

    def open_and_note(camera: CameraConfig):
        source = open_source(camera)
        monkeypatch.setattr(source, "close", lambda: opened.remove(source))
        opened.append(source)
        return source

    monkeypatch.setattr(module, "open_source", open_and_note)
    sinks.error = ConfigError("output.file: cannot write there")
    config = replace(
        old.config, camera=CameraConfig("demo", width=320), output=OutputConfig(stdout=True)
    )

    with pytest.raises(ConfigError, match="cannot write there"):
        build_beside(old, config, old.engine, sinks)
    assert opened == []


def test_a_source_that_does_not_exist_leaves_the_old_parts_alone(old: Parts, sinks: Sinks):
    config = replace(old.config, camera=CameraConfig("none.mp4"))
    with pytest.raises(NoInputError):
        build_beside(old, config, old.engine, sinks)
    assert sinks.calls == 0


def test_a_slow_sink_leaves_a_moment_for_those_behind_it(monkeypatch: pytest.MonkeyPatch):
    clock = iter([0.0, 0.0, 60.0])
    monkeypatch.setattr(module.time, "monotonic", lambda: next(clock))
    times = []

    class Runner:
        lost = 2

        def close(self, timeout_s: float) -> None:
            times.append(timeout_s)

    assert close_sinks([Runner(), Runner()]) == 4
    assert times == [3.0, 0.1]
