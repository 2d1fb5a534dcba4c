"""A process of ours imports our modules and the libraries', wherever it is started."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import edge_runtime


def test_a_module_in_the_current_folder_is_never_imported(tmp_path: Path):
    """On a stick, say, whose numpy.py would else run as whoever asks the doctor there."""
    for name in ("numpy", "json", "edge_runtime"):
        (tmp_path / f"{name}.py").write_text("open('ran', 'a').close()\n")
    path = os.pathsep.join(
        [*filter(None, [os.environ.get("PYTHONPATH")]), str(Path(edge_runtime.__file__).parents[1])]
    )
    command = [sys.executable, "-P", "-m", "edge_runtime", "doctor", "--json", "--camera", "demo"]
    env = {**os.environ, "PYTHONPATH": path}
    done = subprocess.run(
        command, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=120
    )
    levels = {finding["check"]: finding["level"] for finding in json.loads(done.stdout)["findings"]}
    assert (levels["system"], levels["numpy"], levels["opencv"]) == ("ok", "ok", "ok")
    assert not (tmp_path / "ran").exists()
