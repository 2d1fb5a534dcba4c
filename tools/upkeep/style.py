"""Measure how a tree of Python reads: `python -m tools.upkeep.style edge_runtime tools`.

Prints one row a tree as a Markdown table, then every file over 400 lines and every function over 50
lines or complexity 12. With `--function NAME` it prints the length and the complexity of the
functions of that name instead. It is a thermometer, not a goal: a comment that repeats the code, or
a blank line where no thought ends, is worse than none.
"""

from __future__ import annotations

import argparse
import ast
import io
import statistics
import sys
import tokenize
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from edge_runtime.errors import DataError, NoInputError
from tools.lib import markdown
from tools.lib.command import run_verb, verb_parser

LONG_FILE = 400
LONG_FUNCTION = 50
HIGH_COMPLEXITY = 12

HEAD = (
    "tree",
    "file lines median / p95 / max",
    "function lines p95 / max",
    "comments per 100 code lines",
    "blank lines in functions",
    "line width p95",
    "tuple assignments, walrus, nested comprehensions per 1000 lines",
)

Function = ast.FunctionDef | ast.AsyncFunctionDef
COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)
# What adds a path through a function (McCabe, "A complexity measure", 1976). Each part of a
# condition with `and` or `or` adds one more.
BRANCHES = (ast.If, ast.IfExp, ast.For, ast.AsyncFor, ast.While, ast.ExceptHandler, ast.match_case)


@dataclass
class Figures:
    """What was counted in one tree."""

    files: dict[Path, int] = field(default_factory=dict)
    functions: list[tuple[str, int, int]] = field(default_factory=list)  # name, lines, complexity
    widths: list[int] = field(default_factory=list)
    comments: int = 0
    code: int = 0
    blank_in_functions: int = 0
    lines_in_functions: int = 0
    dense: int = 0


def measure(tree: Path) -> Figures:
    """Count all Python files of a folder. Raises NoInputError, DataError."""
    paths = sorted(tree.rglob("*.py"))
    if not paths:
        raise NoInputError(f"{tree}: no Python files there")

    figures = Figures()
    for path in paths:
        text = path.read_text(encoding="utf-8")
        try:
            module = ast.parse(text)
        except SyntaxError as error:
            raise DataError(f"{path}:{error.lineno}: not Python ({error.msg})") from error

        # A package's __init__ that holds only its docstring is no file that anybody reads.
        if all(_is_docstring(node) for node in module.body):
            continue
        _count_lines(figures, path, text, _docstring_lines(module))
        _count_functions(figures, path, module, text.splitlines())
        figures.dense += sum(map(_is_dense, ast.walk(module)))
    return figures


def _is_docstring(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def _docstring_lines(module: ast.Module) -> set[int]:
    lines: set[int] = set()
    for node in ast.walk(module):
        if (
            isinstance(node, ast.Module | ast.ClassDef | Function)
            and node.body
            and _is_docstring(node.body[0])
        ):
            first = node.body[0]
            lines.update(range(first.lineno, (first.end_lineno or first.lineno) + 1))
    return lines


def _count_lines(figures: Figures, path: Path, text: str, docstrings: set[int]) -> None:
    lines = text.splitlines()
    figures.files[path] = len(lines)
    figures.widths += [len(line) for line in lines if line.strip()]

    comments: set[int] = set()
    code: set[int] = set()
    layout = (tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENCODING)
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT:
            comments.add(token.start[0])
        elif token.type not in layout and token.string:
            code.update(range(token.start[0], token.end[0] + 1))
    figures.comments += len(comments)
    figures.code += len(code - docstrings)


def _count_functions(figures: Figures, path: Path, module: ast.Module, lines: list[str]) -> None:
    for function in _outermost(module):
        body = lines[function.lineno - 1 : function.end_lineno]
        figures.lines_in_functions += len(body)
        figures.blank_in_functions += sum(not line.strip() for line in body)

    for node in ast.walk(module):
        if isinstance(node, Function):
            length = (node.end_lineno or node.lineno) - node.lineno + 1
            figures.functions.append(
                (f"{path}:{node.lineno} {node.name}", length, complexity(node))
            )


def _outermost(node: ast.AST) -> Iterator[Function]:
    """Functions that stand in no other function, so that no line is counted twice."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, Function):
            yield child
        else:
            yield from _outermost(child)


def complexity(function: Function) -> int:
    """Cyclomatic complexity, with the functions inside counted as part of it."""
    total = 1
    for node in ast.walk(function):
        if isinstance(node, BRANCHES):
            total += 1
        elif isinstance(node, ast.BoolOp):
            total += len(node.values) - 1
        elif isinstance(node, ast.comprehension):
            total += 1 + len(node.ifs)
    return total


def _is_dense(node: ast.AST) -> bool:
    """Whether one line holds more than one thought: `a, b = x, y`, a walrus, a comprehension in a
    comprehension."""
    if isinstance(node, ast.NamedExpr):
        return True
    if isinstance(node, ast.Assign):
        return isinstance(node.value, ast.Tuple) and isinstance(node.targets[0], ast.Tuple)
    if isinstance(node, COMPREHENSIONS):
        return any(
            isinstance(inner, COMPREHENSIONS) for inner in ast.walk(node) if inner is not node
        )
    return False


def row(tree: Path, figures: Figures) -> list[str]:
    """The cells of one tree, in the order of HEAD."""
    files = list(figures.files.values())
    lengths = [length for _, length, _ in figures.functions] or [0]
    blank = figures.blank_in_functions / max(1, figures.lines_in_functions)
    return [
        str(tree),
        f"{statistics.median(files):.0f} / {percentile(files, 95)} / {max(files)}",
        f"{percentile(lengths, 95)} / {max(lengths)}",
        f"{100 * figures.comments / max(1, figures.code):.1f}",
        f"{blank:.1%}",
        str(percentile(figures.widths, 95)),
        f"{1000 * figures.dense / sum(files):.1f}",
    ]


def percentile(values: list[int], share: int) -> int:
    """The least value that at least `share` % of the values do not exceed."""
    ordered = sorted(values)
    rank = -(-len(ordered) * share // 100)
    return ordered[max(0, rank - 1)]


def outliers(figures: Figures) -> list[str]:
    """One line for each long file and each long or tangled function."""
    lines = [f"{path}: {count} lines" for path, count in figures.files.items() if count > LONG_FILE]
    for name, length, ways in figures.functions:
        if length > LONG_FUNCTION or ways > HIGH_COMPLEXITY:
            lines.append(f"{name}: {length} lines, complexity {ways}")
    return lines


def report(trees: list[Path]) -> str:
    """The table, and below it what is long or tangled in each tree."""
    figures = {tree: measure(tree) for tree in trees}
    parts = [markdown.table(HEAD, [row(tree, own) for tree, own in figures.items()])]

    functions = f"functions over {LONG_FUNCTION} lines or complexity {HIGH_COMPLEXITY}"
    limits = f"files over {LONG_FILE} lines, {functions}"
    for tree, own in figures.items():
        lines = [f"- {line}" for line in outliers(own)]
        parts += ["", f"{tree}: {limits}:", "", *(lines or ["- none"])]
    return "\n".join(parts)


def named(trees: list[Path], names: list[str]) -> str:
    """One line for each function of these names. Raises NoInputError where there is none."""
    lines = []
    for tree in trees:
        for name, length, ways in measure(tree).functions:
            if name.split()[-1] in names:
                lines.append(f"{name}: {length} lines, complexity {ways}")

    if not lines:
        raise NoInputError(f"no function {' or '.join(names)} there", "check the name")
    return "\n".join(lines)


def main(argv: list[str] | None = None) -> int:
    """Run the verb; returns the exit code."""
    parser = verb_parser("tools.upkeep.style", __doc__, whole=True)
    parser.add_argument("tree", type=Path, nargs="+", help="a folder of Python files")
    parser.add_argument(
        "--function",
        metavar="NAME",
        action="append",
        help="print this function's length and complexity; may be given several times",
    )

    def work(args: argparse.Namespace) -> str:
        return named(args.tree, args.function) if args.function else report(args.tree)

    return run_verb(parser, work, argv)


if __name__ == "__main__":
    sys.exit(main())
