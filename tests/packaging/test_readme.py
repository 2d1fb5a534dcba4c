"""What a newcomer copies out of the README works."""

from __future__ import annotations

import json
import re
from pathlib import Path

import cv2
import numpy as np

from tests.packaging.pages import blocks, run_python
from tests.paths import REPOSITORY

README = (REPOSITORY / "README.md").read_text()


def block(language: str) -> str:
    """The README's only block of a language."""
    [text] = blocks(README, language)
    return text


def test_the_python_of_the_readme_labels_a_photograph(tmp_path: Path):
    colours = np.random.default_rng(0).integers(0, 256, (96, 128, 3), dtype=np.uint8)
    assert cv2.imwrite(str(tmp_path / "photo.jpg"), colours)

    lines = run_python(block("python"), tmp_path)
    assert lines
    assert all(re.fullmatch(r".+ \d\.\d+(e-\d+)? (True|False)", line) for line in lines), lines


def test_the_record_of_the_readme_is_json_with_the_fields_of_the_schema():
    record = json.loads(block("json"))
    schema = json.loads((REPOSITORY / "docs" / "record.schema.json").read_text())

    assert set(record) <= set(schema["properties"])
    assert record["schema"] == schema["properties"]["schema"]["const"]
    label_fields = set(schema["properties"]["labels"]["items"]["properties"])
    assert all(set(label) <= label_fields for label in record["labels"])


def test_every_paper_and_rival_of_the_readme_has_a_link():
    for paper in ("2103.00020", "2505.18039", "2403.04908"):
        assert f"https://arxiv.org/abs/{paper}" in README

    first_cells = [line.split("|")[1].strip() for line in README.splitlines() if line[:2] == "| "]
    rivals = [cell for cell in first_cells if cell not in ("", "---", "**edge-label**")]
    assert len(rivals) >= 5
    assert all(re.match(r"\[[^\]]+\]\(https://", rival) for rival in rivals), rivals
