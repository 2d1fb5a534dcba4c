"""systemd/edge-label.yaml is the manual: it loads, holds every key, and shows the defaults."""

from __future__ import annotations

import dataclasses
import re
import typing
from pathlib import Path
from typing import Any

import yaml

from edge_runtime.config import Config, load_config
from edge_runtime.model.bundle import load_bundle
from edge_runtime.model.labels.compiled import load_labels
from edge_runtime.system import strict_yaml
from tests.daemon import REPOSITORY

MANUAL = REPOSITORY / "systemd" / "edge-label.yaml"
ALL_ON = re.sub(
    r"(?m)^#(?=\w+:$|  )", "", MANUAL.read_text()
)  # the sections that are off stand there commented out


def section(hint: Any) -> Any:
    """The dataclass of a field that holds one, also of one that may be None."""
    return next((t for t in (hint, *typing.get_args(hint)) if dataclasses.is_dataclass(t)), None)


def keys(cls: type, prefix: str = "") -> set[str]:
    """Every key of a configuration class, dotted."""
    found = set()
    for name, hint in typing.get_type_hints(cls).items():
        inner = None if typing.get_origin(hint) is tuple else section(hint)
        found |= keys(inner, f"{prefix}{name}.") if inner else {prefix + name}
    return found


def written(tree: Any, prefix: str = "") -> set[str]:
    found = set()
    for name, value in tree.items():
        found |= written(value, f"{prefix}{name}.") if isinstance(value, dict) else {prefix + name}
    return found


def test_it_loads_and_shows_the_defaults():
    assert load_config(MANUAL) == Config()


def test_every_key_of_the_configuration_is_in_it():
    assert keys(Config) == written(yaml.safe_load(ALL_ON))


def test_sections_that_are_off_are_examples_that_load_and_show_the_defaults():
    config = strict_yaml.parse(ALL_ON, str(MANUAL), Config)
    for name, hint in typing.get_type_hints(Config).items():
        for field in dataclasses.fields(section(hint)):
            shown = getattr(getattr(config, name), field.name)
            assert field.default in (dataclasses.MISSING, None, shown), f"{name}.{field.name}"


def test_the_trigger_examples_ask_for_labels_that_the_set_road_can_report(default_bundle: Path):
    triggers = strict_yaml.parse(ALL_ON, str(MANUAL), Config).triggers
    assert triggers is not None
    asked = set().union(*(rule.when.labels for rule in triggers.rules if rule.when))
    assert asked <= set(load_labels("road", load_bundle(default_bundle)).reported)


def test_every_key_has_a_comment_above_it_or_above_its_neighbour():
    blocks = [block for block in ALL_ON.split("\n\n") if not block.startswith("# ")]
    assert len(blocks) == len(dataclasses.fields(Config))
    assert all("  # " in block for block in blocks)
