"""YAML that a person edits, turned into frozen dataclasses or refused with the line number.

What lives here: the safe parse (size, depth, alias and tag limits) and the walk from YAML nodes to dataclass
fields. What must not: any knowledge of a particular file; config.py and label_set.py declare theirs.
"""

from __future__ import annotations

import dataclasses
import difflib
import functools
import math
import re
import types
import typing
from pathlib import Path
from typing import Any, TypeVar, Union

from edge_runtime.errors import ConfigError, NoInputError
from edge_runtime.secrecy import shown
from edge_runtime.system.files import read_capped

MAX_BYTES = 8 << 20  # 10,000 labels with prompts are about 1 MB
MAX_DEPTH = 12
# libyaml reads far ahead: with so many open brackets it may give up, in its own words, before it reports any of them.
_MAX_OPEN_BRACKETS = 100
_SHELL = re.compile(r"\$\{\w*\}|^\$\w+(/|$)|^~/")  # what only a shell understands

T = TypeVar("T")


def read_text(path: Path, what: str) -> str:
    """The file's text, or one line that says why not. Raises NoInputError, ConfigError."""
    try:
        data = read_capped(path, MAX_BYTES)
        if len(data) > MAX_BYTES:
            raise ConfigError(f"{path}: {what} is more than {MAX_BYTES >> 20} MB: split it")
        return decode(data, str(path))
    except FileNotFoundError:
        raise NoInputError(f"{path}: no such {what}", "check the path") from None
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"{path}: cannot read {what}: {getattr(error, 'strerror', None) or error}"
        ) from None


def decode(data: bytes, where: str) -> str:
    """The text of a file's bytes. Raises ConfigError for another encoding."""
    try:
        return data.decode("utf-8-sig")  # some editors put a byte order mark in front
    except UnicodeDecodeError as error:
        raise ConfigError(f"{where}: not UTF-8 at byte {error.start}", "save it as UTF-8") from None


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
        raise ConfigError(
            f"{where}: {len(text) >> 20} MB of YAML, more than {MAX_BYTES >> 20} MB: split it"
        )
    _refuse_open_brackets(text, where)
    depth = 0
    try:
        for event in yaml.parse(text, Loader=loader):
            line = event.start_mark.line + 1 if event.start_mark else 1
            if isinstance(event, yaml.AliasEvent):
                raise ConfigError(
                    f"{where}:{line}: YAML aliases (*name) are not used here", "write the value out"
                )
            tag = getattr(event, "tag", None)
            if tag is not None and not isinstance(
                event, (yaml.DocumentStartEvent, yaml.StreamStartEvent)
            ):
                # Not repeated: a password that begins with ! is taken for one.
                raise ConfigError(
                    f"{where}:{line}: a YAML tag (!name) is not allowed",
                    "put quotes around such a value",
                )
            if isinstance(event, (yaml.MappingStartEvent, yaml.SequenceStartEvent)):
                depth += 1
                if depth > MAX_DEPTH:
                    raise _too_deep(where, line)
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
        raise ConfigError(f"{where}{line_text}: {problem}", f"{advice}") from None
    except ValueError as error:  # characters YAML forbids (NUL, surrogates)
        raise ConfigError(f"{where}: {error}") from None


def _refuse_open_brackets(text: str, where: str) -> None:
    """Refuse what is nested far too deep before the parser reads it, so that every PyYAML gives the same answer."""
    opened = 0
    for match in re.finditer(r"#[^\n]*|[\[\]{}]", text):
        sign = match.group()
        if sign in ("[", "{"):
            opened += 1
        elif sign in ("]", "}"):
            opened = max(0, opened - 1)
        if opened > _MAX_OPEN_BRACKETS:
            raise _too_deep(where, text.count("\n", 0, match.start()) + 1)


def _too_deep(where: str, line: int) -> ConfigError:
    return ConfigError(f"{where}:{line}: nested deeper than {MAX_DEPTH} levels")


def _at(node: Any, where: str) -> str:
    mark = getattr(node, "start_mark", None)
    return f"{where}:{mark.line + 1}" if mark else where


@functools.cache
def _hints(cls: typing.Hashable) -> dict[str, Any]:
    """Resolved field types; the lookup is not free and a label set builds one dataclass a label."""
    return typing.get_type_hints(cls)


def _build(node: Any, cls: type[T], where: str, path: str) -> T:
    import yaml

    hints = _hints(typing.cast("typing.Hashable", cls))
    node = _section(node, cls)
    if not isinstance(node, yaml.MappingNode):
        raise ConfigError(
            f"{_at(node, where)}: {path or 'the file'} must be a mapping (key: value lines)"
        )
    # A field whose YAML key is a word Python keeps for itself (not) carries the key in its metadata.
    fields = {f.metadata.get("key", f.name): f for f in dataclasses.fields(cls)}  # type: ignore[arg-type]
    values: dict[str, Any] = {}
    for key_node, value_node in node.value:
        key = key_node.value if isinstance(key_node, yaml.ScalarNode) else "?"
        if key not in fields:
            near = difflib.get_close_matches(key, fields, n=1, cutoff=0.5)
            hint = f"did you mean '{near[0]}'?" if near else f"known keys: {', '.join(fields)}"
            in_path = f" in {path}" if path else ""
            raise ConfigError(f"{_at(key_node, where)}: unknown key '{key}'{in_path}", f"{hint}")
        name = fields[key].name
        if name in values:
            raise ConfigError(f"{_at(key_node, where)}: '{key}' is given twice", "keep one")
        inner = f"{path}.{key}" if path else key
        # Where any word may stand (a label called `off`), none of them means null.
        wanted = str if fields[key].metadata.get("any_word") else hints[name]
        values[name] = _convert(value_node, wanted, where, inner)
        # Only here, not in lists: a hook's command line may hold a variable that a shell of its own replaces.
        if isinstance(values[name], str) and _SHELL.search(values[name]):
            raise ConfigError(
                f"{_at(value_node, where)}: {inner}: ~/ and variables such as ${{NAME}} are not replaced here",
                "write out what they stand for",
            )
    for key, field in fields.items():
        if (
            field.name not in values
            and field.default is dataclasses.MISSING
            and field.default_factory is dataclasses.MISSING
        ):
            in_path = f" in {path}" if path else ""
            raise ConfigError(
                f"{_at(node, where)}: '{key}' is missing{in_path}", f"add '{key}: ...'"
            )
    try:
        return cls(**values)
    except ValueError as error:  # a dataclass's own __post_init__ range checks
        raise ConfigError(f"{_at(node, where)}: {error}") from None


def _section(node: Any, cls: Any) -> Any:
    """The mapping that a short form stands for: ``camera: /dev/video0`` is ``camera: {source: /dev/video0}``.

    Nothing at all (``camera:``, with every line below it commented out) is a section with its defaults.
    """
    import yaml

    if not isinstance(node, yaml.ScalarNode):
        return node
    if _is_null(node):
        return _empty_mapping(node)
    for field in dataclasses.fields(cls):
        if field.metadata.get("short"):
            key = yaml.ScalarNode("tag:yaml.org,2002:str", field.name, node.start_mark)
            return yaml.MappingNode("tag:yaml.org,2002:map", [(key, node)], node.start_mark)
    return node


def _is_null(node: Any) -> bool:
    return bool(node.tag.endswith(":null"))


def _mapping(node: Any, hint: Any, where: str, path: str) -> dict[str, Any]:
    import yaml

    if not isinstance(node, yaml.MappingNode):
        raise ConfigError(f"{_at(node, where)}: {path} must be a mapping (name: value lines)")
    values: dict[str, Any] = {}
    for key_node, value_node in node.value:
        key = _scalar(key_node, str, where, path)
        if key in values:
            raise ConfigError(f"{_at(key_node, where)}: '{key}' is given twice", "keep one")
        values[key] = _convert(value_node, hint, where, f"{path}.{key}")
    return values


def _convert(node: Any, hint: Any, where: str, path: str) -> Any:
    import yaml

    origin = typing.get_origin(hint)
    if origin in (Union, types.UnionType):
        options = [a for a in typing.get_args(hint) if a is not type(None)]
        optional = len(options) < len(typing.get_args(hint))
        if optional and isinstance(node, yaml.ScalarNode):
            section = len(options) == 1 and dataclasses.is_dataclass(options[0])
            if section and (_is_null(node) or _switch(node) is True):
                # "preview:" with nothing below it switches the section on, with its defaults
                return _build(
                    _empty_mapping(node), typing.cast("type[Any]", options[0]), where, path
                )
            if _is_null(node) or (_switch(node) is False and bool not in options):
                return None
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
        if isinstance(node, yaml.ScalarNode) and _is_null(node):
            raise ConfigError(
                f"{_at(node, where)}: {path} is empty", "give it a list ([a, b]) or remove the line"
            )
        if not isinstance(node, yaml.SequenceNode):
            raise ConfigError(f"{_at(node, where)}: {path} must be a list ([a, b] or '- a' lines)")
        item, *rest = typing.get_args(hint)
        if rest and rest[0] is not Ellipsis:
            if len(node.value) != 1 + len(rest):
                raise ConfigError(f"{_at(node, where)}: {path} must have {1 + len(rest)} items")
            return tuple(
                _convert(n, h, where, path) for n, h in zip(node.value, (item, *rest), strict=True)
            )
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


def _switch(node: Any) -> bool | None:
    """True or False for a word that switches on or off (``off``, ``no``, ``none``), else None."""
    if node.tag.endswith(":bool"):
        return str(node.value).lower() in ("true", "yes", "on")
    return False if not node.style and node.value.lower() == "none" else None


def _scalar(node: Any, hint: Any, where: str, path: str) -> Any:
    import yaml

    kind = {str: "text", int: "a whole number", float: "a number", bool: "true or false"}[hint]
    tag = node.tag.rsplit(":", 1)[-1]
    if not isinstance(node, yaml.ScalarNode):
        raise ConfigError(f"{_at(node, where)}: {path} must be {kind}")
    text = node.value
    if "\0" in text:
        raise ConfigError(f"{_at(node, where)}: {path} holds a NUL byte", "remove it")
    if hint is str and tag in ("str", "int", "float", "bool", "timestamp") and text:
        return text  # a camera number or a label that looks like a number is still text
    if hint is bool and tag == "bool":
        return _switch(node)
    if hint in (int, float):
        number = _number(text, hint)
        if number is not None:
            return number

    said = shown(text)
    said = said if len(said) <= 40 else said[:37] + "..."
    hint_text = ""
    if hint in (int, float) and re.fullmatch(r"[-+]?0[0-9_]+", text):
        hint_text = f"; a leading zero means octal in YAML, write {text.lstrip('-+0') or '0'}"
    raise ConfigError(f"{_at(node, where)}: {path} must be {kind}, not '{said}'{hint_text}")


def _number(text: str, kind: type) -> int | float | None:
    """``text`` as a finite number of that kind, or None. ``1e1`` is a number, though YAML 1.1 takes it for text."""
    if re.match(
        r"[-+]?0[0-9_]", text
    ):  # octal for YAML 1.1, decimal for people: nobody can tell which was meant
        return None
    if kind is int:
        try:
            return int(text, 0)  # 0x10 and 1_000
        except ValueError:
            pass  # 1e1 or 640.0
    try:
        value = float(text)
    except ValueError:
        return None
    if not math.isfinite(value):
        return None
    if kind is float:
        return value
    return int(value) if value.is_integer() else None
