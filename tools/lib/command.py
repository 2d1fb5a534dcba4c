"""How a verb runs: arguments in, one call, one line for what went wrong, an exit code out."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping

from edge_runtime.errors import EdgeLabelError

# What a verb does with its arguments: text to print, or an exit code, or nothing.
Work = Callable[[argparse.Namespace], "str | int | None"]


def verb_parser(name: str, doc: str | None, *, whole: bool = False) -> argparse.ArgumentParser:
    """A parser for `python -m NAME`. Its help shows the first paragraph of `doc`, or the whole."""
    text = doc or ""
    return argparse.ArgumentParser(
        prog=f"python -m {name}",
        description=text if whole else text.split("\n\n")[0],
        formatter_class=argparse.RawDescriptionHelpFormatter if whole else argparse.HelpFormatter,
    )


def run_verb(
    parser: argparse.ArgumentParser,
    work: Work,
    argv: list[str] | None = None,
    *,
    failures: Mapping[type[Exception], int] | None = None,
) -> int:
    """Parse the arguments, do the work, print what it returns; the exit code.

    Every EdgeLabelError becomes one line on standard error and ends with its own code. `failures`
    gives the code of other exceptions, the most special first; what is not among them is a fault of
    the program and is raised.
    """
    arguments = parser.parse_args(argv)
    expected = failures or {}

    try:
        outcome = work(arguments)
    except (EdgeLabelError, *expected) as error:
        name = parser.prog.removeprefix("python -m ")
        print(f"{name}: {error}", file=sys.stderr)
        if isinstance(error, EdgeLabelError):
            return error.exit_code
        return next(code for kind, code in expected.items() if isinstance(error, kind))

    if isinstance(outcome, str):
        print(outcome)
        return 0
    return outcome or 0
