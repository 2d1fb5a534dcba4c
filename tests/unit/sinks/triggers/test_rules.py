"""Rules choose the frames that they promise and no others."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edge_runtime.config import Condition, Config, TriggersConfig
from edge_runtime.errors import ConfigError
from edge_runtime.records import LabelledFrame
from edge_runtime.sinks.triggers.rules import DIVERSITY_MEMORY, Diversity, Rules, holds
from edge_runtime.system import strict_yaml
from tests.unit.sinks.triggers.harness import NAMES, at, feed, make, rule, scores, sidecars


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{label: a}", True),
        ("{label: b}", False),
        ("{label: missing}", False),
        ("{label: b, min_score: 0.2}", True),
        ("{label: b, min_score: 0.4}", False),
        ("{label: b, min_score: 0.2, max_score: 0.4}", True),
        ("{label: a, max_score: 0.5}", False),
        ("{label: missing, max_score: 0.1}", True),
        ("{state: ok}", True),
        ("{state: unknown}", False),
        ("{not: {label: b}}", True),
        ("{all: [{label: a}, {not: {label: b}}]}", True),
        ("{all: [{label: a}, {label: b}]}", False),
        ("{any: [{label: b}, {label: a}]}", True),
        ("{any: [{label: b}, {state: unknown}]}", False),
        ("{not: {any: [{label: b}, {all: [{label: a}, {state: ok}]}]}}", False),
    ],
)
def test_conditions(text: str, expected: bool):
    condition = strict_yaml.parse(text, "x.yaml", Condition)
    assert holds(condition, {s.name: s for s in scores(a=0.8, b=0.3)}, "ok") is expected


def test_a_rising_edge_fires_once_until_it_falls(tmp_path: Path):
    sink = make(tmp_path, rule())
    for i, score in enumerate([0.1, 0.9, 0.9, 0.9, 0.1, 0.9]):
        feed(sink, *at(i, snowy_road=score))
    sink.close()
    assert len(sidecars(tmp_path)) == 2


def test_a_level_fires_again_after_the_minimum_interval(tmp_path: Path):
    sink = make(tmp_path, rule(edge="level", min_interval_s=5.0))
    for i in range(20):
        feed(sink, *at(i, snowy_road=0.9))
    sink.close()
    assert len(sidecars(tmp_path)) == 4


def test_diversity_keeps_only_what_looks_different(tmp_path: Path):
    sink = make(tmp_path, rule(when=None, min_distance=0.3))
    rng = np.random.default_rng(0)
    scenes = np.eye(8, dtype=np.float32)[:3]
    for i in range(60):
        made, frame = at(i, tunnel=0.1)
        vector = scenes[i % 3] + rng.normal(0, 0.02, 8)
        feed(sink, made, frame, (vector / np.linalg.norm(vector)).astype(np.float32))
    sink.close()
    assert len(sidecars(tmp_path)) == 3


def test_diversity_never_keeps_nan_and_remembers_a_bounded_number():
    diversity = Diversity(0.5)
    nan = np.full(4, np.nan, np.float32)
    assert not diversity.is_new(nan)
    for i in range(2 * DIVERSITY_MEMORY):
        diversity.remember(np.eye(4, dtype=np.float32)[i % 2])
    assert diversity._rows is not None
    assert len(diversity._rows) == DIVERSITY_MEMORY
    assert not diversity.is_new(np.array([1, 0, 0, 0], np.float32))
    assert diversity.is_new(np.array([0, 0, 1, 0], np.float32))
    assert not diversity.is_new(nan)


def test_a_label_that_the_set_does_not_have_is_said_with_the_nearest(tmp_path: Path):
    with pytest.raises(
        ConfigError,
        match="rule snow: the label set has no 'snowy raod' to report; did you mean 'snowy road'",
    ):
        make(tmp_path, rule(when=Condition(not_=Condition(label="snowy raod"))))


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("{spool: s, rules: []}", "rules is empty"),
        ("{spool: s, rules: [{name: 'a b', when: {label: x}}]}", "part of a file's name"),
        ("{spool: s, rules: [{name: a}]}", "would keep everything"),
        ("{spool: s, rules: [{name: a, when: {}}]}", "this has none"),
        ("{spool: s, rules: [{name: a, when: {label: x, state: ok}}]}", "this has label and state"),
        ("{spool: s, rules: [{name: a, when: {state: ok, min_score: 1}}]}", "belongs to a label"),
        ("{spool: s, rules: [{name: a, when: {state: okay}}]}", "did you mean 'ok'"),
        ("{spool: s, rules: [{name: a, when: {any: []}}]}", "at least one condition"),
        ("{spool: s, rules: [{name: a, when: {label: x}, pre_s: 3}]}", "are for save: clip"),
        ("{spool: s, rules: [{name: a, when: {label: x}, save: clip}]}", "needs pre_s or post_s"),
        (
            "{spool: s, rules: [{name: a, when: {label: x}}, {name: a, when: {label: y}}]}",
            "same name",
        ),
        (
            "{spool: s, rules: [{name: a, when: {label: x}}], delete_after_hook: true}",
            "needs triggers.hook",
        ),
    ],
)
def test_a_wrong_section_is_one_clear_line(text: str, problem: str):
    with pytest.raises(ConfigError, match=problem):
        strict_yaml.parse(f"triggers: {text}", "x.yaml", Config)


def test_an_edge_that_was_lost_and_is_over_does_not_fire(tmp_path: Path):
    rules = Rules(TriggersConfig(str(tmp_path / "spool"), (rule(min_interval_s=3600.0),)), NAMES)
    (task,) = rules.choose(LabelledFrame(*at(0, snowy_road=0.9))) or ()
    rules.dropped(task)
    assert rules.choose(LabelledFrame(*at(1, snowy_road=0.1))) is not None, (
        "the sink hears of the loss"
    )
    assert rules.choose(LabelledFrame(*at(2, snowy_road=0.9))) is not None, (
        "a new edge, and its interval was not spent"
    )
    assert rules.fired == 2


def test_a_picture_that_was_lost_is_still_new(tmp_path: Path):
    rules = Rules(
        TriggersConfig(str(tmp_path / "spool"), (rule(when=None, min_distance=0.3),)), NAMES
    )
    made, frame = at(0, tunnel=0.1)
    embedding = np.eye(4, dtype=np.float32)[0]
    (task,) = rules.choose(LabelledFrame(made, frame, embedding)) or ()
    assert rules.choose(LabelledFrame(*at(1, tunnel=0.1), embedding)) is None
    rules.dropped(task)
    assert rules.choose(LabelledFrame(*at(2, tunnel=0.1), embedding)) is not None
    assert rules.fired == 2


def test_another_bundle_begins_with_nothing_kept(tmp_path: Path):
    """Its embeddings may have another length, and lie in another space even if they have not."""
    rules = Rules(
        TriggersConfig(str(tmp_path / "spool"), (rule(when=None, min_distance=0.3),)), NAMES
    )
    for second, dim, bundle in ((0, 4, "old-1.0.0"), (1, 8, "new-1.0.0"), (2, 8, "newer-1.0.0")):
        made, frame = at(second, tunnel=0.1)
        embedding = np.eye(dim, dtype=np.float32)[0]
        rules.choose(LabelledFrame(replace(made, bundle=bundle), frame, embedding))
    assert rules.fired == 3
