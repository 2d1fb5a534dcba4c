"""What a reload loads comes as an engine, or as the error that the loading raised."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from edge_runtime.config import Config, ModelConfig
from edge_runtime.daemon import loading as module
from edge_runtime.daemon.loading import Loading
from edge_runtime.engine import load_engine
from edge_runtime.errors import NoInputError


@pytest.fixture
def config(tiny_bundle: Path) -> Config:
    return Config(model=ModelConfig(bundle=str(tiny_bundle), labels="colours", threads=1))


def test_an_engine_is_loaded_beside_the_old_one_and_shares_its_encoder(config: Config):
    old = load_engine(config.model)
    loading = Loading(replace(config, model=replace(config.model, top_k=1)), old)
    loading.wait(60)
    assert loading.done
    assert loading.engine().config.top_k == 1
    assert loading.engine().encode is old.encode


@pytest.mark.parametrize("error", [NoInputError("x.yaml: no such label set"), MemoryError()])
def test_what_the_loading_raises_is_raised_where_it_is_asked_for(
    config: Config, monkeypatch: pytest.MonkeyPatch, error: Exception
):
    def fail(*_: object) -> None:
        raise error

    old = load_engine(config.model)
    monkeypatch.setattr(module, "start_engine", fail)
    loading = Loading(config, old)
    with pytest.raises(type(error)):
        loading.engine()
    assert loading.done
