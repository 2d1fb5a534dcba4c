"""What is tested is what is installed."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.metadata import distribution
from pathlib import Path

import pytest

import edge_runtime
from tests.paths import REPOSITORY

INSTALLED = Path(edge_runtime.__file__).parent != REPOSITORY / "edge_runtime"


@pytest.mark.skipif(
    not INSTALLED and "CI" not in os.environ, reason="tests this tree; make test tests the wheel"
)
def test_ci_tests_the_wheel_and_so_does_every_process_that_a_test_starts():
    assert INSTALLED, "this is the source tree; CI is to run: make coverage"
    command = [sys.executable, "-c", "import edge_runtime; print(edge_runtime.__file__)"]
    child = subprocess.run(command, capture_output=True, text=True, check=True, cwd=REPOSITORY)
    assert child.stdout.strip() == edge_runtime.__file__


@pytest.mark.skipif(not INSTALLED, reason="tests this tree; make test tests the wheel")
def test_the_wheel_holds_edge_runtime_and_nothing_else():
    files = [str(file) for file in distribution("edge-label").files or ()]
    assert any(file == "edge_runtime/sinks/web/preview.html" for file in files), (
        "data files are in it"
    )
    assert [
        f
        for f in files
        if not f.startswith(("edge_runtime/", "edge_label-")) and "bin/edge-label" not in f
    ] == []
