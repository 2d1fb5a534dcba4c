"""systemd/edge-label.yaml is the manual: it loads, it holds every key, and what it shows are the defaults."""

from __future__ import annotations

import dataclasses
import typing
from typing import Any

import yaml

from edge_runtime.config import Config, load_config
from tests.daemon import REPOSITORY

MANUAL = REPOSITORY / "systemd" / "edge-label.yaml"


def keys(cls: type, prefix: str = "") -> set[str]:
    """Every key of a configuration class, dotted."""
    found = set()
    for name, hint in typing.get_type_hints(cls).items():
        found |= keys(hint, f"{prefix}{name}.") if dataclasses.is_dataclass(hint) else {prefix + name}
    return found


def written(tree: Any, prefix: str = "") -> set[str]:
    found = set()
    for name, value in tree.items():
        found |= written(value, f"{prefix}{name}.") if isinstance(value, dict) else {prefix + name}
    return found


def test_it_loads_and_shows_the_defaults():
    assert load_config(MANUAL) == Config()


def test_every_key_of_the_configuration_is_in_it():
    assert keys(Config) == written(yaml.safe_load(MANUAL.read_text()))


def test_every_key_has_a_comment_above_it_or_above_its_neighbour():
    lines = MANUAL.read_text().splitlines()
    blocks = [block for block in "\n".join(lines).split("\n\n") if not block.startswith("#")]
    assert len(blocks) == len(dataclasses.fields(Config))
    assert all("  # " in block for block in blocks)
