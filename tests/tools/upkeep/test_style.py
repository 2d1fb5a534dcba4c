"""The style measure counts what it says it counts."""

from __future__ import annotations

from pathlib import Path

import pytest

from tools.upkeep import style

CODE = '''"""Docstring."""

def walk(values):
    # Why.
    first, second = values, 3
    total = 0

    if (size := len(values)) and second:
        total = sum([sum(x for x in row) for row in values])
    return first, size, total  # as told
'''


def test_a_tree_is_measured_in_the_terms_of_the_table(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text(CODE)
    (tmp_path / "__init__.py").write_text('"""Only a docstring."""\n')
    figures = style.measure(tmp_path)
    assert list(figures.files.values()) == [10]
    assert (figures.comments, figures.code) == (2, 6)
    assert (figures.blank_in_functions, figures.lines_in_functions) == (1, 8)
    assert figures.dense == 3  # one of each: tuple assignment, walrus, nested comprehension
    assert [(length, ways) for _, length, ways in figures.functions] == [(8, 5)]


def test_long_files_and_tangled_functions_are_listed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    branches = "".join(f"    if x == {n}:\n        x += 1\n" for n in range(style.HIGH_COMPLEXITY))
    (tmp_path / "tangled.py").write_text(f"def tangled(x):\n{branches}    return x\n")
    (tmp_path / "long.py").write_text("x = 1\n" * (style.LONG_FILE + 1))
    (tmp_path / "calm.py").write_text("def calm(x):\n    return x\n")
    assert style.main([str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert f"tangled: 26 lines, complexity {style.HIGH_COMPLEXITY + 1}" in out
    assert f"long.py: {style.LONG_FILE + 1} lines" in out
    assert "calm" not in out


def test_what_cannot_be_measured_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert style.main([str(tmp_path)]) == 66
    assert "no Python files there" in capsys.readouterr().err
    (tmp_path / "x.py").write_text("def")
    assert style.main([str(tmp_path)]) == 65
    assert "x.py:1: not Python" in capsys.readouterr().err


def test_one_function_can_be_asked_for(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a.py").write_text("def calm(x):\n    return x if x else 1\n")
    assert style.main([str(tmp_path), "--function", "calm"]) == 0
    assert capsys.readouterr().out.endswith("a.py:1 calm: 2 lines, complexity 2\n")
    assert style.main([str(tmp_path), "--function", "wild"]) == 66
    assert "no function wild there" in capsys.readouterr().err
