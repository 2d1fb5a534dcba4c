"""An argparse parser that reports a mistake in one line: no password in it, and a suggestion."""

from __future__ import annotations

import argparse
import difflib
import re
from collections.abc import Sequence
from typing import Any, NoReturn

from edge_runtime.errors import UsageError, printable
from edge_runtime.secrecy import masked, shown
from edge_runtime.system import streams


class OneLineParser(argparse.ArgumentParser):
    """Reports a mistake in one line, without the usage. Every command knows --verbose."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        # SUPPRESS: the default of a command must not overwrite a --verbose that stood before it.
        self.add_argument(
            "--verbose",
            action="store_true",
            default=argparse.SUPPRESS,
            help="log more, and show where an error comes from",
        )

    def _print_message(self, message: str, file: Any = None) -> None:
        """Ignores a standard output that takes no help text.

        Python 3.11.2, which Debian 12 has, would end in a traceback.
        """
        try:
            super()._print_message(message, file)
        except OSError:
            streams.silence()

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        """Refuse a command or a value that does not exist, and name the nearest one that does."""
        if action.choices is None or value in action.choices:
            return

        names = [str(name) for name in action.choices]
        advice = _did_you_mean(str(value), names) or f" (choose from {', '.join(names)})"
        raise argparse.ArgumentError(action, f"invalid choice: '{value}'{advice}")

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Refuse unknown options here, where the parser of the command knows the right ones."""
        options, unknown = super().parse_known_args(args, namespace)
        if unknown:
            option_names = re.findall(r"--[a-z-]+", self.format_help())
            # The options' names only: people write `--password hunter2` by mistake.
            names = [shown(word).partition("=")[0] for word in unknown if word.startswith("-")]
            text = " ".join(names) or shown(unknown[0])
            self.error(f"unrecognized arguments: {text}{_did_you_mean(unknown[0], option_names)}")
        return options, unknown

    def error(self, message: str) -> NoReturn:
        line = printable(masked(message))
        self.exit(UsageError.exit_code, f"edge-label: {line}; see {self.prog} --help\n")


def _did_you_mean(word: str, names: Sequence[str]) -> str:
    nearest = difflib.get_close_matches(word, names, n=1)
    return f"; did you mean {nearest[0]}?" if nearest else ""
