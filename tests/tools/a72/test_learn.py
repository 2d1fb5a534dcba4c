"""The cost of teaching is measured on pictures that differ, and its table adds up. No emulator."""

from __future__ import annotations

from pathlib import Path

import cv2

from edge_runtime.model.labels.label_set import parse_label_set
from tools.a72 import learn
from tools.a72.fit import Work


def test_the_case_has_as_many_different_pictures_as_asked_for(tmp_path: Path) -> None:
    label_set, pictures = learn.write_case(tmp_path, 20)
    labels = parse_label_set(label_set.read_text(), "x").labels
    files = sorted(pictures.rglob("*.jpg"))

    assert {file.parent.name for file in files} == {label.name for label in labels}
    assert len({file.read_bytes() for file in files}) == 20
    assert cv2.imread(str(files[0])).shape == (480, 640, 3)


def test_the_report_says_instructions_memory_and_that_the_time_is_modelled() -> None:
    work = {step: Work(10**9, 10**9, 10**6, 10**6) for step in learn.STEPS}
    text = learn.report(work, 95.71, 200)

    assert text.startswith(
        "200 pictures of 10 labels: 4.0 G instructions, guest RSS 95.7 MB (budget 180)\n"
    )
    assert "| teach | 1,000 | " in text
    assert "not measured on hardware" in text
