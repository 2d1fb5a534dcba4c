"""The matrix is whole: every row has a test and a mutant, and every test has a row."""

from __future__ import annotations

import re

from tests.daemon import REPOSITORY
from tests.faults.matrix import ROWS, result
from tests.faults.mutants import MUTANTS
from tests.faults.page import PAGE, code, page


def test_every_row_has_a_test_and_every_test_a_row():
    sources = [path.read_text() for path in (REPOSITORY / "tests").rglob("test_*.py")]
    marks = {
        i
        for text in sources
        for found in re.findall(r"mark\.fault\(([^)]*)\)", text)
        for i in re.findall(r"\w+", found)
    }
    assert marks == {row.id for row in ROWS}


def test_every_row_has_a_mutant():
    assert {mutant.id for mutant in MUTANTS} == {row.id for row in ROWS}


def test_the_page_shows_every_row_with_its_tests_and_mutants():
    assert page() == PAGE.read_text(), "run: make docs"


def test_every_test_that_the_page_names_exists():
    sources = "".join(path.read_text() for path in (REPOSITORY / "tests").rglob("test_*.py"))
    names = re.findall(r"`(test_\w+)`", PAGE.read_text())
    assert names
    assert all(f"def {name}(" in sources for name in names)


def test_a_pipe_in_a_line_of_code_ends_no_cell():
    assert code("os.O_EXCL |\n    os.O_NOFOLLOW") == "`os.O_EXCL \\| os.O_NOFOLLOW`"


def test_a_row_without_a_test_is_no_pass():
    assert result({}) == "NO TEST"
    assert result({"passed": 3, "failed": 1}) == "FAIL (1 of 4)"
    assert result({"skipped": 2}) == "skip (2)"
    assert result({"passed": 3, "skipped": 1}) == "pass (4)"
