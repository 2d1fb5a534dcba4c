"""The programs for the machine, on the host: they start without this repository. No check runs."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from . import guest, guest_checks, package_checks


@pytest.mark.parametrize("program", [guest_checks, package_checks])
def test_a_program_needs_only_what_lies_beside_it(tmp_path: Path, program: ModuleType):
    shutil.copy(program.__file__, tmp_path / "program.py")
    shutil.copy(guest.__file__, tmp_path)
    # -S: only the standard library, as in the machine.
    found = subprocess.run(
        [sys.executable, "-S", "-c", "import program; print(len(program.CHECKS))"],
        env=os.environ | {"PYTHONPATH": str(tmp_path)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert found.stdout.strip() == str(len(program.CHECKS)), found.stderr


def test_every_check_is_reported_and_the_failed_ones_are_counted(
    capsys: pytest.CaptureFixture[str],
):
    def good() -> str:
        return "seen"

    def broken() -> str:
        raise AssertionError("not seen")

    assert guest.run_checks([broken, good, broken]) == 2
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(line["check"], line["ok"], line["seen"]) for line in lines] == [
        ("broken", False, "AssertionError: not seen"),
        ("good", True, "seen"),
        ("broken", False, "AssertionError: not seen"),
    ]


def test_only_must_insists_on_success():
    assert guest.sh("echo out; echo err >&2; false") == "out\nerr"
    assert guest.must("echo out") == "out"
    with pytest.raises(AssertionError, match=r"^echo why; false: 1: why$"):
        guest.must("echo why; false")
