"""The way past one machine: the Ray Data example labels as ``edge-label once`` does."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from edge_runtime.cli import main
from tests.commands import need_module
from tests.paths import REPOSITORY

EXAMPLE = REPOSITORY / "examples" / "label_with_ray.py"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "pictures"
    root.mkdir()
    for i, colour in enumerate([(0, 0, 255), (0, 255, 0), (255, 0, 0)] * 2):
        noise = np.random.default_rng(i).integers(0, 60, (40, 40, 3))
        cv2.imwrite(str(root / f"{i}.png"), np.abs(np.array(colour) - noise).astype(np.uint8))
    return root


def once(folder: Path, bundle: Path, output: Path) -> dict[str, dict]:
    from pyarrow import parquet

    model = ["--bundle", str(bundle), "--labels", "colours"]
    assert main(["once", str(folder), "--output", str(output), "--embeddings", *model]) == 0
    return {row["file"]: row for row in parquet.read_table(output).to_pylist()}


def test_a_process_of_the_example_labels_as_once_does(
    tiny_bundle: Path, folder: Path, tmp_path: Path
):
    spec = importlib.util.spec_from_file_location("label_with_ray", EXAMPLE)
    assert spec
    assert spec.loader
    example = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(example)
    expected = once(folder, tiny_bundle, tmp_path / "once.parquet")
    paths = [*sorted(expected), "broken", "empty"]
    data = [*(Path(path).read_bytes() for path in paths[:-2]), b"broken", b""]
    got = example.Labeller(str(tiny_bundle), "colours")({"path": paths, "bytes": data})
    assert got["file"] == paths
    assert got["state"] == [*(expected[path]["state"] for path in paths[:-2]), "invalid", "invalid"]
    for i, path in enumerate(paths[:-2]):
        assert [label["name"] for label in got["labels"][i]] == [
            label["name"] for label in expected[path]["labels"]
        ]
        assert np.allclose(got["embedding"][i], expected[path]["embedding"], atol=1e-6)


def test_ray_in_local_mode_writes_the_same_table(tiny_bundle: Path, folder: Path, tmp_path: Path):
    need_module("ray", "pip install 'ray[data]'")
    from pyarrow import parquet

    expected = once(folder, tiny_bundle, tmp_path / "once.parquet")
    output = tmp_path / "ray"
    command = [
        sys.executable,
        str(EXAMPLE),
        str(folder),
        str(output),
        "--local",
        "2",
        "--labels",
        "colours",
    ]
    patient = {"RAY_agent_register_timeout_ms": "300000", "RAY_raylet_start_wait_time_s": "300"}
    subprocess.run(
        [*command, "--bundle", str(tiny_bundle)],
        check=True,
        timeout=600,
        env={**os.environ, **patient},
    )
    rows = {row["file"]: row for row in parquet.read_table(output).to_pylist()}
    assert rows.keys() == expected.keys()
    for file, row in rows.items():
        assert row["state"] == expected[file]["state"]
        assert np.allclose(row["embedding"], expected[file]["embedding"], atol=1e-6)
