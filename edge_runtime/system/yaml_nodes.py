"""YAML text to a tree of nodes, with limits. Nothing here knows what the nodes mean.

What a tree promises: it has no aliases and no tags, so it cannot explode or create objects, and it
is no deeper than MAX_DEPTH.

PyYAML is imported when the first text is parsed: a run without a YAML file does without it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from edge_runtime.errors import ConfigError

MAX_BYTES = 8 << 20  # 10,000 labels with prompts are about 1 MB
MAX_DEPTH = 12

# libyaml reads far ahead. With so many open brackets it may give up, in its own words, before it
# reports any of them.
_MAX_OPEN_BRACKETS = 100

_MAP_TAG = "tag:yaml.org,2002:map"
_STR_TAG = "tag:yaml.org,2002:str"


def compose(text: str, where: str) -> Any:
    """The root node of one YAML document; an empty mapping for an empty document.

    Raises ConfigError with the line.
    """
    import yaml

    if len(text) > MAX_BYTES:
        megabytes = len(text) >> 20
        raise ConfigError(
            f"{where}: {megabytes} MB of YAML, more than {MAX_BYTES >> 20} MB", "split it"
        )
    _refuse_open_brackets(text, where)

    loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        # Events first: they cost little memory, whatever a tree of them would become.
        _check_events(yaml.parse(text, Loader=loader), where)
        root = yaml.compose(text, Loader=loader)
    except yaml.YAMLError as error:
        # Without the cause: it quotes the line, which may hold a password.
        raise _syntax_error(error, text, where) from None
    except ValueError as error:  # characters YAML forbids (NUL, surrogates)
        raise ConfigError(f"{where}: {error}") from error
    return empty_mapping() if root is None else root


def _refuse_open_brackets(text: str, where: str) -> None:
    """Refuse what is nested far too deep before the parser reads it.

    Every PyYAML then gives the same answer. Comments do not count; a bracket in quotes does, but
    nobody has a hundred of those.
    """
    opened = 0
    for match in re.finditer(r"#[^\n]*|[\[\]{}]", text):
        sign = match.group()
        if sign in ("[", "{"):
            opened += 1
        elif sign in ("]", "}"):
            opened = max(0, opened - 1)
        if opened > _MAX_OPEN_BRACKETS:
            raise _too_deep(where, text.count("\n", 0, match.start()) + 1)


def _check_events(events: Iterable[Any], where: str) -> None:
    """Refuse aliases, tags and deep nesting."""
    import yaml

    starts = (yaml.MappingStartEvent, yaml.SequenceStartEvent)
    ends = (yaml.MappingEndEvent, yaml.SequenceEndEvent)
    untagged = (yaml.DocumentStartEvent, yaml.StreamStartEvent)
    depth = 0
    for event in events:
        line = event.start_mark.line + 1 if event.start_mark else 1
        if isinstance(event, yaml.AliasEvent):
            raise ConfigError(
                f"{where}:{line}: YAML aliases (*name) are not used here", "write the value out"
            )
        if not isinstance(event, untagged) and getattr(event, "tag", None) is not None:
            # The tag is not repeated: a password that begins with ! is taken for one.
            raise ConfigError(
                f"{where}:{line}: a YAML tag (!name) is not allowed",
                "put quotes around such a value",
            )
        if isinstance(event, starts):
            depth += 1
            if depth > MAX_DEPTH:
                raise _too_deep(where, line)
        elif isinstance(event, ends):
            depth -= 1


def _too_deep(where: str, line: int) -> ConfigError:
    return ConfigError(f"{where}:{line}: nested deeper than {MAX_DEPTH} levels")


def _syntax_error(error: Exception, text: str, where: str) -> ConfigError:
    problem = getattr(error, "problem", None) or "not YAML"
    advice = "check indentation, quotes and colons"
    mark = getattr(error, "problem_mark", None)
    if mark is None:
        return ConfigError(f"{where}: {problem}", advice)

    line = "".join(text.splitlines()[mark.line : mark.line + 1])
    if "start any token" in problem and "\t" in line:
        advice = "replace the tab by spaces"
    return ConfigError(f"{where}:{mark.line + 1}: {problem}", advice)


def place(node: Any, where: str) -> str:
    """``road.yaml:7``; without the line for a node that stands nowhere."""
    mark = getattr(node, "start_mark", None)
    return f"{where}:{mark.line + 1}" if mark else where


def empty_mapping(at: Any = None) -> Any:
    """A mapping without keys, in the place of node ``at``."""
    import yaml

    return yaml.MappingNode(_MAP_TAG, [], at.start_mark if at else None)


def mapping_of_one(key: str, value: Any) -> Any:
    """A mapping with one key, in the place of node ``value``."""
    import yaml

    key_node = yaml.ScalarNode(_STR_TAG, key, value.start_mark)
    return yaml.MappingNode(_MAP_TAG, [(key_node, value)], value.start_mark)


def is_scalar(node: Any) -> bool:
    return bool(node.id == "scalar")


def is_mapping(node: Any) -> bool:
    return bool(node.id == "mapping")


def is_sequence(node: Any) -> bool:
    return bool(node.id == "sequence")


def is_null(node: Any) -> bool:
    """Whether a scalar is ``~``, ``null`` or nothing at all."""
    return bool(node.tag.endswith(":null"))


def switch(node: Any) -> bool | None:
    """True or False for a word that switches on or off (``off``, ``no``, ``none``), else None."""
    if node.tag.endswith(":bool"):
        return str(node.value).lower() in ("true", "yes", "on")
    if not node.style and node.value.lower() == "none":  # not in quotes
        return False
    return None
