"""A mistake on the command line is one line that says what was meant, and no secret."""

from __future__ import annotations

import pytest

from edge_runtime.one_line_parser import OneLineParser


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["--camra", "0"], "unrecognized arguments: --camra; did you mean --camera?"),
        (["--password=hunter2"], "unrecognized arguments: ***"),
        (["--kind", "rbg"], "argument --kind: invalid choice: 'rbg'; did you mean rgb?"),
        (["--kind", "x"], "argument --kind: invalid choice: 'x' (choose from rgb, depth)"),
    ],
)
def test_a_mistake_is_one_line_with_what_was_meant(arguments: list[str], line: str, capsys):
    parser = OneLineParser(prog="edge-label")
    parser.add_argument("--camera")
    parser.add_argument("--kind", choices=("rgb", "depth"))

    with pytest.raises(SystemExit) as ended:
        parser.parse_args(arguments)

    assert ended.value.code == 2
    assert capsys.readouterr().err == f"edge-label: {line}; see edge-label --help\n"


def test_every_parser_knows_verbose_and_keeps_one_that_stood_before():
    parser = OneLineParser()
    inner = parser.add_subparsers().add_parser("bench")
    assert isinstance(inner, OneLineParser)
    assert parser.parse_args(["--verbose", "bench"]).verbose is True
    assert not hasattr(parser.parse_args(["bench"]), "verbose")
