"""What ``edge-label`` sets before it loads anything."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

PROGRAM = """
import os, sys
sys.argv = ["edge-label", "labels", "list"]
from edge_runtime.__main__ import main
assert main() == 0
print(os.environ["OPENBLAS_NUM_THREADS"])
"""


@pytest.mark.parametrize(("given", "used"), [(None, "1"), ("2", "2")])
def test_numpy_has_one_thread_unless_the_user_says_otherwise(given: str | None, used: str):
    environment = {name: text for name, text in os.environ.items() if "BLAS" not in name}
    if given:
        environment["OPENBLAS_NUM_THREADS"] = given
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-1] == used
