"""Sinks are told of what a record can hold, and of nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge_runtime.config import Condition, Config, TriggerRule, TriggersConfig
from edge_runtime.errors import ConfigError
from edge_runtime.model.bundle import load_bundle
from edge_runtime.model.labels import LabelSet, LabelSpec, TextBank, compile_labels
from edge_runtime.outlets import Running, optional_outlets


def outlets_for(bundle: Path, config: Config):
    spec = (LabelSpec("red"), LabelSpec("green", background=True))
    opened = load_bundle(bundle)
    labels = compile_labels(LabelSet(spec), opened, TextBank.from_bundle(opened))
    return optional_outlets(config, Running(lambda: labels, lambda: "ok"), labels, live=True)


def test_a_trigger_on_a_background_label_is_refused_because_it_would_never_fire(tiny_bundle: Path, tmp_path: Path):
    rule = TriggerRule(name="r", when=Condition(label="green"))
    config = Config(triggers=TriggersConfig(spool=str(tmp_path), rules=(rule,)))
    with pytest.raises(ConfigError, match="the label set has no 'green'"):
        outlets_for(tiny_bundle, config)
