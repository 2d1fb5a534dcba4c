"""The command line explains itself: each command once, every option with its help."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator

import pytest

from edge_runtime.arguments import make_parser, parse
from edge_runtime.cli import _COMMANDS


def subparsers(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            return action.choices
    return {}


def leaves(parser: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    """The parsers of commands that do something, those of `bundle` and `labels` included."""
    children = subparsers(parser)
    if not children:
        yield parser
    for child in children.values():
        yield from leaves(child)


def test_help_lists_each_command_once():
    parser = make_parser()
    text = parser.format_help()
    for command in subparsers(parser):
        assert len(re.findall(rf"^ +{command}  ", text, re.MULTILINE)) == 1


def test_every_command_option_and_argument_has_help():
    for parser in (make_parser(), *leaves(make_parser())):
        for action in parser._actions:
            if not isinstance(action, argparse._SubParsersAction):
                assert action.help, f"{parser.prog} {action.dest}"

    for parser in (make_parser(), *subparsers(make_parser()).values()):
        for action in parser._actions:
            if isinstance(action, argparse._SubParsersAction):
                explained = {choice.dest for choice in action._choices_actions if choice.help}
                assert explained == set(action.choices)


def test_every_command_of_the_parser_has_its_function():
    commands = {parser.get_default("command") for parser in leaves(make_parser())}
    assert commands == set(_COMMANDS)


@pytest.mark.parametrize(
    ("arguments", "command"),
    [
        ([], "run"),
        (["--camera", "demo"], "run"),
        (["--verbose", "--camera", "demo"], "run"),
        (["run"], "run"),
        (["--verbose", "bench"], "bench"),
        (["bundle", "verify"], "bundle verify"),
    ],
)
def test_run_is_the_command_where_none_is_named(arguments: list[str], command: str):
    options = parse(arguments)
    assert options.command == command
    assert getattr(options, "verbose", False) is ("--verbose" in arguments)
