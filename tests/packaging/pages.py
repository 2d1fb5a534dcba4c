"""Code on a page of the documentation, and running it as a reader would."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from tests.paths import REPOSITORY


def blocks(page: str, language: str) -> list[str]:
    """The blocks of a language on a page, in order."""
    return re.findall(rf"^```{language}\n(.*?)^```", page, re.MULTILINE | re.DOTALL)


def run_python(code: str, folder: Path) -> list[str]:
    """The lines that the code prints in a folder, with the bundle that ships."""
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=folder,
        env={**os.environ, "EDGE_LABEL_BUNDLE": str(REPOSITORY / "models" / "edge-clip")},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()
