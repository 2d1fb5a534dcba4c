"""The tables of docs/faults.md, written from the matrix, the tests' marks and the mutants.

``python -m tests.faults.page`` writes them; `make docs` does so too.
"""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from itertools import groupby

from tests.daemon import REPOSITORY
from tests.faults.matrix import ROWS, Row
from tests.faults.mutants import MUTANTS

PAGE = REPOSITORY / "docs" / "faults.md"
BEGIN = "<!-- python -m tests.faults.page -->\n"
END = "<!-- end -->"

# The letter that a row's id begins with.
SECTIONS = {
    "C": "Cameras, videos and pictures",
    "M": "Models and bundles",
    "U": "Installing bundles",
    "S": "Disks and files",
    "T": "Clocks",
    "P": "The process",
    "N": "Network and outputs",
    "K": "Viewers and passwords",
    "E": "Labels changed on the page",
    "L": "Labels taught with pictures",
    "W": "Words that the text bank lacks",
    "G": "Configuration and privacy",
    "D": "Dependencies and permissions",
}
# A row may have a dozen tests. The page shows the first ones and how many more there are.
SHOWN = 3


def tests_by_row() -> dict[str, list[str]]:
    """The names of the tests marked with each row's id, in the order of files and lines."""
    names = defaultdict(list)

    for path in sorted((REPOSITORY / "tests").rglob("test_*.py")):
        module = ast.parse(path.read_text())
        of_module = [
            row
            for statement in module.body
            if isinstance(statement, ast.Assign)
            for row in marked_rows(statement.value)
        ]

        for node in ast.walk(module):
            if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
                rows = of_module + [
                    row for mark in node.decorator_list for row in marked_rows(mark)
                ]

                for row in rows:
                    names[row].append(node.name)

    return names


def marked_rows(node: ast.expr) -> list[str]:
    """The ids in ``pytest.mark.fault("C1", "C2")``; nothing for another expression."""
    mark = re.search(r"mark\.fault\(([^)]*)\)", ast.unparse(node))

    return re.findall(r"\w+", mark[1]) if mark else []


def code(text: str) -> str:
    """Code in a table's cell: on one line, with its pipes escaped."""
    return f"`{' '.join(text.split())}`".replace("|", "\\|")


def line(row: Row, tests: list[str]) -> str:
    """A row of the page's table."""
    names = [code(name) for name in tests[:SHOWN]]
    more = len(tests) - SHOWN

    if more > 0:
        names.append(f"and {more} more")

    changes = [
        f"{code(mutant.file.removeprefix('edge_runtime/'))}: {code(mutant.old)}"
        for mutant in MUTANTS
        if mutant.id == row.id
    ]
    cells = (row.id, row.fault, row.mechanism, "<br>".join(names), "<br>".join(changes))

    return f"| {' | '.join(cells)} |"


def tables() -> str:
    """One table a section."""
    tests = tests_by_row()
    parts = []

    for letter, rows in groupby(ROWS, lambda row: row.id[0]):
        parts.append(f"\n### {SECTIONS[letter]}\n")
        parts.append("| id | fault | what answers it | tests | mutants |")
        parts.append("| --- | --- | --- | --- | --- |")
        parts += [line(row, tests[row.id]) for row in rows]

    return "\n".join(parts).lstrip("\n") + "\n\n"


def page() -> str:
    """docs/faults.md as it should be."""
    text = PAGE.read_text()
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)

    return f"{before}{BEGIN}{tables()}{END}{after}"


if __name__ == "__main__":
    PAGE.write_text(page())
