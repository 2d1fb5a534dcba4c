"""YAML that a person edits, turned into frozen dataclasses or refused with the line number.

Four steps, each with its promise:

1. ``read_text``: a path becomes UTF-8 text. Whatever the path is, this ends, with one line.
2. ``yaml_nodes.compose``: the text becomes a tree of nodes that cannot explode or execute.
3. ``_Reader.build``: a mapping becomes a dataclass. Every key is a field and is given once, and no
   field without a default is missing.
4. ``_Reader._convert``: a node becomes a value of exactly the type that the field declares.

No knowledge of a particular file lives here: config/ and model/labels/ declare theirs.
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
from edge_runtime.system import yaml_nodes
from edge_runtime.system.files import read_capped
from edge_runtime.system.yaml_nodes import MAX_BYTES, empty_mapping, is_mapping, is_null, is_scalar

_SHELL = re.compile(r"\$\{\w*\}|^\$\w+(/|$)|^~/")  # what only a shell understands

# A leading zero means octal in YAML 1.1 and nothing to people: nobody can tell which was meant.
_OCTAL = re.compile(r"[-+]?0[0-9_]")

_KINDS = {str: "text", int: "a whole number", float: "a number", bool: "true or false"}
_LONGEST_QUOTE = 40  # characters of a wrong value that an error repeats

T = TypeVar("T")


def read_text(path: Path, what: str) -> str:
    """The file's text; ``what`` names the file in errors. Raises NoInputError, ConfigError."""
    try:
        data = read_capped(path, MAX_BYTES)
    except FileNotFoundError as error:
        raise NoInputError(f"{path}: no such {what}", "check the path") from error
    except (OSError, ValueError) as error:  # ValueError: a NUL byte in the path
        reason = getattr(error, "strerror", None) or error
        raise ConfigError(f"{path}: cannot read {what}: {reason}") from error
    if len(data) > MAX_BYTES:
        raise ConfigError(f"{path}: {what} is more than {MAX_BYTES >> 20} MB", "split it")
    return decode(data, str(path))


def decode(data: bytes, where: str) -> str:
    """The text of a file's bytes. Raises ConfigError for another encoding."""
    try:
        return data.decode("utf-8-sig")  # some editors put a byte order mark in front
    except UnicodeDecodeError as error:
        raise ConfigError(
            f"{where}: not UTF-8 at byte {error.start}", "save it as UTF-8"
        ) from error


def parse(text: str, where: str, cls: type[T]) -> T:
    """Build dataclass ``cls`` from YAML ``text``; ``where`` (a path) opens every error.

    Unknown keys, wrong types, duplicate keys, aliases, tags and deep nesting raise ConfigError with
    the line. Four things in a field's metadata change how it is read:

    - ``key``: its key in YAML, where that is a word that Python keeps for itself (``not``);
    - ``short``: ``camera: /dev/video0`` means this field of the section;
    - ``advice``: what to write instead of a value of a wrong kind;
    - ``any_word``: ``off`` and ``none`` are text like any other (a label may be called so).
    """
    root = yaml_nodes.compose(text, where)
    value: T = _Reader(where).build(root, cls, "")
    return value


@functools.cache
def _hints(cls: Any) -> dict[str, Any]:
    """Resolved field types. Cached: a label set builds one dataclass a label."""
    return typing.get_type_hints(cls)


@functools.cache
def _fields(cls: Any) -> dict[str, dataclasses.Field[Any]]:
    """The fields of a dataclass by their keys in YAML."""
    return {field.metadata.get("key", field.name): field for field in dataclasses.fields(cls)}


class _Reader:
    """Nodes of one file to values. ``path`` in its methods is where a value is: ``camera.fps``."""

    def __init__(self, where: str) -> None:
        self._where = where

    def build(self, node: Any, cls: Any, path: str) -> Any:
        """An instance of dataclass ``cls`` from a mapping or its short form. Raises ConfigError."""
        node = self._section(node, cls)
        if not is_mapping(node):
            raise self._error(node, f"{path or 'the file'} must be a mapping (key: value lines)")

        values = self._values(node, cls, path)
        for key, field in _fields(cls).items():
            if field.name not in values and _is_required(field):
                raise self._error(node, f"'{key}' is missing{_inside(path)}", f"add '{key}: ...'")
        try:
            return cls(**values)
        except ValueError as error:  # a dataclass's own __post_init__ checks ranges
            raise self._error(node, str(error)) from error

    def _section(self, node: Any, cls: Any) -> Any:
        """The mapping that a short form stands for.

        ``camera: /dev/video0`` is ``camera: {source: /dev/video0}``. Nothing at all (``camera:``
        with every line below it commented out) is a section with its defaults.
        """
        if not is_scalar(node):
            return node
        if is_null(node):
            return empty_mapping(node)
        for field in dataclasses.fields(cls):
            if field.metadata.get("short"):
                return yaml_nodes.mapping_of_one(field.name, node)
        return node

    def _values(self, node: Any, cls: Any, path: str) -> dict[str, Any]:
        """The values in a mapping by field name: known keys only, each of them once."""
        fields = _fields(cls)
        hints = _hints(cls)
        values: dict[str, Any] = {}
        for key_node, value_node in node.value:
            key = key_node.value if is_scalar(key_node) else "?"
            if key not in fields:
                raise self._unknown_key(key_node, key, list(fields), path)
            field = fields[key]
            if field.name in values:
                raise self._error(key_node, f"'{key}' is given twice", "keep one")

            inner = f"{path}.{key}" if path else key
            hint = str if field.metadata.get("any_word") else hints[field.name]
            try:
                value = self._convert(value_node, hint, inner)
            except ConfigError as error:
                error.advice = error.advice or field.metadata.get("advice", "")
                raise
            # Only here, not in lists: a hook's command line may hold a variable for its own shell.
            if isinstance(value, str) and _SHELL.search(value):
                raise self._error(
                    value_node,
                    f"{inner}: ~/ and variables such as ${{NAME}} are not replaced here",
                    "write out what they stand for",
                )
            values[field.name] = value
        return values

    def _unknown_key(self, node: Any, key: str, keys: list[str], path: str) -> ConfigError:
        near = difflib.get_close_matches(key, keys, n=1, cutoff=0.5)
        advice = f"did you mean '{near[0]}'?" if near else f"known keys: {', '.join(keys)}"
        return self._error(node, f"unknown key '{key}'{_inside(path)}", advice)

    def _convert(self, node: Any, hint: Any, path: str) -> Any:
        """A value of type ``hint``: a dataclass, ``X | Y``, dict, tuple, Literal or a scalar."""
        origin = typing.get_origin(hint)
        if origin in (Union, types.UnionType):
            return self._union(node, hint, path)
        if dataclasses.is_dataclass(hint):
            return self.build(node, hint, path)
        if origin is dict:
            return self._dict(node, typing.get_args(hint)[1], path)
        if origin is tuple:
            return self._tuple(node, typing.get_args(hint), path)
        if origin is typing.Literal:
            return self._literal(node, typing.get_args(hint), path)
        return self._scalar(node, hint, path)

    def _union(self, node: Any, hint: Any, path: str) -> Any:
        """``X | None``, where a word may switch it on or off; ``X | Y``, the first that fits."""
        options = [option for option in typing.get_args(hint) if option is not type(None)]
        is_optional = len(options) < len(typing.get_args(hint))
        if is_optional and is_scalar(node):
            if _is_switched_on(node, options):
                return self.build(empty_mapping(node), options[0], path)
            if _is_switched_off(node, options):
                return None

        for option in options[:-1]:
            try:
                return self._convert(node, option, path)
            except ConfigError:
                continue
        return self._convert(node, options[-1], path)

    def _dict(self, node: Any, hint: Any, path: str) -> dict[str, Any]:
        if not is_mapping(node):
            raise self._error(node, f"{path} must be a mapping (name: value lines)")

        values: dict[str, Any] = {}
        for key_node, value_node in node.value:
            key = self._scalar(key_node, str, path)
            if key in values:
                raise self._error(key_node, f"'{key}' is given twice", "keep one")
            values[key] = self._convert(value_node, hint, f"{path}.{key}")
        return values

    def _tuple(self, node: Any, hints: tuple[Any, ...], path: str) -> tuple[Any, ...]:
        """``tuple[X, ...]``, or with one type for each item."""
        if is_scalar(node) and is_null(node):
            raise self._error(
                node, f"{path} is empty", "give it a list ([a, b]) or remove the line"
            )
        if not yaml_nodes.is_sequence(node):
            raise self._error(node, f"{path} must be a list ([a, b] or '- a' lines)")

        items = node.value
        if hints[-1] is Ellipsis:
            values = [self._convert(n, hints[0], f"{path}[{i}]") for i, n in enumerate(items)]
            return tuple(values)
        if len(items) != len(hints):
            raise self._error(node, f"{path} must have {len(hints)} items")
        return tuple(self._convert(n, hint, path) for n, hint in zip(items, hints, strict=True))

    def _literal(self, node: Any, choices: tuple[Any, ...], path: str) -> Any:
        text = node.value if is_scalar(node) else None
        words = {str(choice): choice for choice in choices}
        if text in words:
            return words[text]
        near = difflib.get_close_matches(str(text), words, n=1)
        advice = f"did you mean '{near[0]}'?" if near else ""
        raise self._error(node, f"{path} must be one of {', '.join(words)}", advice)

    def _scalar(self, node: Any, hint: Any, path: str) -> Any:
        """A str, int, float or bool that is written as one."""
        if not is_scalar(node):
            raise self._error(node, f"{path} must be {_KINDS[hint]}")
        text = node.value
        if "\0" in text:
            raise self._error(node, f"{path} holds a NUL byte", "remove it")

        tag = node.tag.rsplit(":", 1)[-1]
        # A camera number or a label that looks like a number is still text.
        if hint is str and tag in ("str", "int", "float", "bool", "timestamp") and text:
            return text
        if hint is bool and tag == "bool":
            return yaml_nodes.switch(node)
        if hint in (int, float):
            number = _number(text, hint)
            if number is not None:
                return number
        raise self._wrong_scalar(node, hint, path)

    def _wrong_scalar(self, node: Any, hint: Any, path: str) -> ConfigError:
        text = node.value
        quote = shown(text)
        if len(quote) > _LONGEST_QUOTE:
            quote = quote[: _LONGEST_QUOTE - 3] + "..."

        advice = ""
        if hint in (int, float) and re.fullmatch(r"[-+]?0[0-9_]+", text):
            decimal = text.lstrip("-+0") or "0"
            advice = f"a leading zero means octal in YAML, write {decimal}"
        return self._error(node, f"{path} must be {_KINDS[hint]}, not '{quote}'", advice)

    def _error(self, node: Any, what: str, advice: str = "") -> ConfigError:
        return ConfigError(f"{yaml_nodes.place(node, self._where)}: {what}", advice)


def _is_switched_on(node: Any, options: list[Any]) -> bool:
    """``preview: on``, or ``preview:`` with nothing below it: the section with its defaults."""
    is_section = len(options) == 1 and dataclasses.is_dataclass(options[0])
    # A written `~` or `null` means "none": only an empty section stands for its defaults.
    nothing_written = is_null(node) and not node.value
    return is_section and (nothing_written or yaml_nodes.switch(node) is True)


def _is_switched_off(node: Any, options: list[Any]) -> bool:
    """``limit: off``. Where the value may be false itself, that word is no switch."""
    switch = yaml_nodes.switch(node)
    return is_null(node) or (switch is False and bool not in options)


def _is_required(field: dataclasses.Field[Any]) -> bool:
    missing = dataclasses.MISSING
    return field.default is missing and field.default_factory is missing


def _inside(path: str) -> str:
    return f" in {path}" if path else ""


def _number(text: str, kind: type) -> int | float | None:
    """``text`` as a finite number of that kind, or None.

    ``1e1`` is a number, though YAML 1.1 takes it for text.
    """
    if _OCTAL.match(text):
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
