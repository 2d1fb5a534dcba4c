"""``edge-label report`` reads runs and writes files that are as private as what they show."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from edge_runtime.cli import main
from tests.unit.commands.report.runs import drive
from tests.unit.commands.report.test_thumbnails import report_with_a_capture


@pytest.mark.fault("K2")
def test_a_page_is_as_private_as_the_most_private_file_that_it_shows(tmp_path: Path):
    report_with_a_capture(tmp_path)
    run, page = tmp_path / "run.jsonl", tmp_path / "run.html"
    assert page.stat().st_mode & 0o777 == 0o600, "it shows captures, which are"
    run.chmod(0o644)
    main(["report", str(run)])
    assert page.stat().st_mode & 0o777 == 0o644
    run.chmod(0o640)
    main(["report", str(run), "--png", str(tmp_path / "run.png")])
    assert page.stat().st_mode & 0o777 == (tmp_path / "run.png").stat().st_mode & 0o777 == 0o640


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["no-such.jsonl"], 66, "no such file"),
        (["empty.jsonl"], 65, "holds no record of edge-label"),
        (["run.jsonl", "--spool", "no-such"], 66, "no such spool folder"),
        (["run.jsonl", "--output", "run.jsonl"], 65, "would overwrite the run"),
        (["run.jsonl", "--output", "../{name}/run.jsonl"], 65, "would overwrite the run"),
        (["run.jsonl", "--png", "run.jsonl"], 65, "give another --png"),
        (["run.jsonl", "--output", "empty.jsonl/x.html"], 65, "cannot write"),
    ],
)
def test_a_mistake_is_one_line(
    tmp_path: Path, monkeypatch, capsys, arguments: list[str], code: int, words: str
):
    monkeypatch.chdir(tmp_path)
    Path("empty.jsonl").touch()
    Path("run.jsonl").write_text("\n".join(drive()))
    assert (
        main(["report", *(argument.format(name=tmp_path.name) for argument in arguments)]) == code
    )
    error = capsys.readouterr().err
    assert words in error
    assert error.count("\n") == 1
    assert json.loads(Path("run.jsonl").read_text().splitlines()[0])
