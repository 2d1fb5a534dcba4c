"""docs/bundle.md states the limits that the code has, and the tests it names exist."""

from __future__ import annotations

import re

import pytest

from edge_runtime.model import manifest, npy, onnx_bytes, self_test
from edge_runtime.model.labels import label_set, phrase_rows
from edge_runtime.model.store import archive
from edge_runtime.system import yaml_nodes
from tests.daemon import REPOSITORY

PAGE = (REPOSITORY / "docs" / "bundle.md").read_text()


@pytest.mark.parametrize(
    "limit",
    [
        f"{archive.MAX_MEMBERS} at most, files and directories only",
        f"at most {archive.MAX_PATH} characters and {archive.MAX_DEPTH} parts",
        f"{manifest.MAX_FILE_BYTES >> 20} MB a file, {archive.MAX_TOTAL_BYTES >> 20} MB together",
        f"| {manifest.MAX_MANIFEST_BYTES >> 20} MB; JSON",
        f"sha256 of the manifest, at most {manifest.MAX_FILE_BYTES >> 20} MB",
        f"{manifest.MIN_SIDE} to {manifest.MAX_SIDE} pixels a side",
        f"1 to {npy.MAX_DIM} numbers",
        f"at most {onnx_bytes.MAX_DEPTH} levels",
        f"{self_test.CPU_S} s of processor, {self_test.WALL_S} s in all, "
        f"{self_test.DATA_BYTES >> 20} MB",
        f"header of {npy.MAX_HEADER_BYTES} bytes",
        f"{npy.MAX_ROWS:,} rows, {npy.MAX_DIM} columns",
        f"{yaml_nodes.MAX_BYTES >> 20} MB of YAML",
        f"{label_set.MAX_LABELS:,} labels, {label_set.MAX_PHRASE} characters a phrase",
        f"bias within {label_set.MAX_BIAS}",
        f"temperature {label_set.MIN_TEMPERATURE} to {label_set.MAX_TEMPERATURE}",
        f"{phrase_rows.MAX_BYTES >> 20} MB, its own sha256",
    ],
)
def test_the_page_states_the_limit_of_the_code(limit: str):
    assert limit in PAGE


def test_every_test_that_the_page_names_exists():
    sources = "".join(path.read_text() for path in (REPOSITORY / "tests").rglob("test_*.py"))
    names = set(re.findall(r"`(test_\w+)`", PAGE))

    assert names
    assert [name for name in names if f"def {name}(" not in sources] == []
