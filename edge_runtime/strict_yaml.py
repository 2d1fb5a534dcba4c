"""YAML that a person edits, turned into frozen dataclasses or refused with the line number.

What lives here: the safe parse (size, depth, alias and tag limits) and the walk from YAML nodes to dataclass
fields. What must not: any knowledge of a particular file; config.py and model/labels.py declare theirs.
"""

from __future__ import annotations

import dataclasses
import difflib
import functools
import math
import types
import typing
from pathlib import Path
from typing import Any, TypeVar, Union

from edge_runtime.errors import ConfigError, NoInputError

MAX_BYTES = 8 << 20  # 10,000 labels with prompts are about 1 MB
MAX_DEPTH = 12

T = TypeVar("T")


def read_text(path: Path, what: str) -> str:
    """The file's text, or one line that says why not. Raises NoInputError, ConfigError."""
    try:
        size = path.stat().st_size
        if size > MAX_BYTES:
            raise ConfigError(f"{path}: {what} is {size >> 20} MB, more than {MAX_BYTES >> 20} MB: split it")
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise NoInputError(f"{path}: no such {what}; check the path") from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not UTF-8 at byte {error.start}; save it as UTF-8") from None
    except OSError as error:
        raise ConfigError(f"{path}: cannot read {what}: {error.strerror}") from None


def parse(text: str, where: str, cls: type[T]) -> T:
    """Build dataclass ``cls`` from YAML ``text``; ``where`` (a path) opens every error.

    Unknown keys, wrong types, duplicate keys, aliases, tags and deep nesting raise ConfigError with the line.
    """
    root = _compose(text, where)
    if root is None:
        return _build(_empty_mapping(), cls, where, "")
    return _build(root, cls, where, "")


def _empty_mapping(at: Any = None) -> Any:
    import yaml

    return yaml.MappingNode("tag:yaml.org,2002:map", [], at.start_mark if at else None)


def _compose(text: str, where: str) -> Any:
    """The YAML node tree, after a first pass over the events that refuses what can explode or execute."""
    import yaml

    loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    if len(text) > MAX_BYTES:
        raise ConfigError(f"{where}: {len(text) >> 20} MB of YAML, more than {MAX_BYTES >> 20} MB: split it")
    depth = 0
    try:
        for event in yaml.parse(text, Loader=loader):
            line = event.start_mark.line + 1 if event.start_mark else 1
            if isinstance(event, yaml.AliasEvent):
                raise ConfigError(f"{where}:{line}: YAML aliases (*name) are not used here; write the value out")
            tag = getattr(event, "tag", None)
            if tag is not None and not isinstance(event, (yaml.DocumentStartEvent, yaml.StreamStartEvent)):
                raise ConfigError(f"{where}:{line}: YAML tag {tag!r} is not allowed; remove it")
            if isinstance(event, (yaml.MappingStartEvent, yaml.SequenceStartEvent)):
                depth += 1
                if depth > MAX_DEPTH:
                    raise ConfigError(f"{where}:{line}: nested deeper than {MAX_DEPTH} levels")
            elif isinstance(event, (yaml.MappingEndEvent, yaml.SequenceEndEvent)):
                depth -= 1
        return yaml.compose(text, Loader=loader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line_text = f":{mark.line + 1}" if mark else ""
        problem = getattr(error, "problem", None) or "not YAML"
        line_there = text.splitlines()[mark.line : mark.line + 1] if mark else []
        tab = "start any token" in problem and "\t" in "".join(line_there)
        advice = "replace the tab by spaces" if tab else "check indentation, quotes and colons"
        raise ConfigError(f"{where}{line_text}: {problem}; {advice}") from None
    except ValueError as error:  # characters YAML forbids (NUL, surrogates)
        raise ConfigError(f"{where}: {error}") from None


def _at(node: Any, where: str) -> str:
    mark = getattr(node, "start_mark", None)
    return f"{where}:{mark.line + 1}" if mark else where


@functools.cache
def _hints(cls: typing.Hashable) -> dict[str, Any]:
    """Resolved field types; the lookup is not free and a label set builds one dataclass a label."""
    return typing.get_type_hints(cls)


def _build(node: Any, cls: type[T], where: str, path: str) -> T:
    import yaml

    if not isinstance(node, yaml.MappingNode):
        raise ConfigError(f"{_at(node, where)}: {path or 'the file'} must be a mapping (key: value lines)")
    hints = _hints(typing.cast("typing.Hashable", cls))
    # A field whose YAML key is a word Python keeps for itself (not) carries the key in its metadata.
    fields = {f.metadata.get("key", f.name): f for f in dataclasses.fields(cls)}  # type: ignore[arg-type]
    values: dict[str, Any] = {}
    for key_node, value_node in node.value:
        key = key_node.value if isinstance(key_node, yaml.ScalarNode) else "?"
        if key not in fields:
            near = difflib.get_close_matches(key, fields, n=1, cutoff=0.5)
            hint = f"did you mean '{near[0]}'?" if near else f"known keys: {', '.join(fields)}"
            in_path = f" in {path}" if path else ""
            raise ConfigError(f"{_at(key_node, where)}: unknown key '{key}'{in_path}; {hint}")
        name = fields[key].name
        if name in values:
            raise ConfigError(f"{_at(key_node, where)}: '{key}' is given twice; keep one")
        values[name] = _convert(value_node, hints[name], where, f"{path}.{key}" if path else key)
    for key, field in fields.items():
        if (
            field.name not in values
            and field.default is dataclasses.MISSING
            and field.default_factory is dataclasses.MISSING
        ):
            in_path = f" in {path}" if path else ""
            raise ConfigError(f"{_at(node, where)}: '{key}' is missing{in_path}; add '{key}: ...'")
    try:
        return cls(**values)
    except ValueError as error:  # a dataclass's own __post_init__ range checks
        raise ConfigError(f"{_at(node, where)}: {error}") from None


def _mapping(node: Any, hint: Any, where: str, path: str) -> dict[str, Any]:
    import yaml

    if not isinstance(node, yaml.MappingNode):
        raise ConfigError(f"{_at(node, where)}: {path} must be a mapping (name: value lines)")
    values: dict[str, Any] = {}
    for key_node, value_node in node.value:
        key = _scalar(key_node, str, where, path)
        if key in values:
            raise ConfigError(f"{_at(key_node, where)}: '{key}' is given twice; keep one")
        values[key] = _convert(value_node, hint, where, f"{path}.{key}")
    return values


def _convert(node: Any, hint: Any, where: str, path: str) -> Any:
    import yaml

    origin = typing.get_origin(hint)
    if origin in (Union, types.UnionType):
        options = [a for a in typing.get_args(hint) if a is not type(None)]
        if isinstance(node, yaml.ScalarNode) and node.tag.endswith(":null"):
            if len(options) == 1 and dataclasses.is_dataclass(options[0]):
                # "preview:" with nothing below it switches the section on, with its defaults
                return _build(_empty_mapping(node), typing.cast("type[Any]", options[0]), where, path)
            if type(None) in typing.get_args(hint):
                return None
            raise ConfigError(f"{_at(node, where)}: {path} is empty; give it a value or remove the line")
        if len(options) == 1:
            return _convert(node, options[0], where, path)
        problem = None
        for option in options:
            try:
                return _convert(node, option, where, path)
            except ConfigError as error:
                problem = error
        raise ConfigError(str(problem))
    if dataclasses.is_dataclass(hint):
        return _build(node, typing.cast("type[Any]", hint), where, path)
    if origin is dict:
        return _mapping(node, typing.get_args(hint)[1], where, path)
    if origin is tuple:
        if not isinstance(node, yaml.SequenceNode):
            raise ConfigError(f"{_at(node, where)}: {path} must be a list ([a, b] or '- a' lines)")
        item, *rest = typing.get_args(hint)
        if rest and rest[0] is not Ellipsis:
            if len(node.value) != 1 + len(rest):
                raise ConfigError(f"{_at(node, where)}: {path} must have {1 + len(rest)} items")
            return tuple(_convert(n, h, where, path) for n, h in zip(node.value, (item, *rest), strict=True))
        return tuple(_convert(n, item, where, f"{path}[{i}]") for i, n in enumerate(node.value))
    if origin is typing.Literal:
        choices = typing.get_args(hint)
        text = node.value if isinstance(node, yaml.ScalarNode) else None
        if text in choices:
            return text
        near = difflib.get_close_matches(str(text), choices, n=1)
        also = f"; did you mean '{near[0]}'?" if near else ""
        raise ConfigError(f"{_at(node, where)}: {path} must be one of {', '.join(choices)}{also}")
    return _scalar(node, hint, where, path)


def _scalar(node: Any, hint: Any, where: str, path: str) -> Any:
    import yaml

    kind = {str: "text", int: "a whole number", float: "a number", bool: "true or false"}[hint]
    tag = node.tag.rsplit(":", 1)[-1]
    if isinstance(node, yaml.ScalarNode):
        text = node.value
        if hint is str and tag in ("str", "int", "float", "bool", "timestamp") and text:
            return text  # a camera number or a label that looks like a number is still text
        if hint is bool and tag == "bool":
            return text.lower() in ("true", "yes", "on")
        try:
            if hint is int and tag == "int":
                return int(text, 0)
            if hint is float and tag in ("int", "float") and math.isfinite(float(text)):
                return float(text)
        except ValueError:
            pass
        shown = text if len(text) <= 40 else text[:37] + "..."
        raise ConfigError(f"{_at(node, where)}: {path} must be {kind}, not '{shown}'")
    raise ConfigError(f"{_at(node, where)}: {path} must be {kind}")
