"""Dockerfile.arm64 in the arm64 userland, with the same wheel: entry point, volume, health."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from tests.dockerfile import Dockerfile
from tools.arm64.userland import REPOSITORY, Userland

pytestmark = pytest.mark.arm64


def test_the_entry_point_writes_records_that_the_health_check_accepts(
    userland: Userland, photographs: list[Path], tmp_path: Path
) -> None:
    dockerfile = Dockerfile(REPOSITORY / "Dockerfile.arm64")
    state, pictures = tmp_path / "state", tmp_path / "pictures"
    state.mkdir()
    pictures.mkdir()
    for path in photographs[:2]:
        shutil.copy(path, pictures)
    program, *options = [
        word.replace("/var/lib/edge-label", str(state)) for word in dockerfile.json("ENTRYPOINT")
    ]
    assert program == "edge-label"
    source, target = next(
        line.split() for line in dockerfile.all("COPY") if line.startswith("models/")
    )
    assert (
        target == "/usr/share/edge-label/models/edge-clip"
    )  # one of the places where the runtime looks
    camera = ["--camera", pictures, "--bundle", REPOSITORY / source]
    done = userland.run(
        "-m", "edge_runtime", *options, *camera, environment={"ORT_DISABLE_TELEMETRY": "1"}
    )
    assert done.returncode == 0, done.stderr
    records = [json.loads(line) for line in (state / "labels.jsonl").read_text().splitlines()]
    assert len(records) == 2
    assert sorted(path.name for path in state.iterdir()) == [
        "labels.jsonl"
    ]  # nothing else was written
    _, *health = [
        word.replace("/var/lib/edge-label", str(state)) for word in dockerfile.health_command()
    ]
    assert userland.run(*health).returncode == 0
