"""Two versions label alike when their records are the same but for the times."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import cv2
import numpy as np
import pytest

from tests.unit.test_records import record
from tools.upkeep.same_records import compare, main, make, normalised


def keep(folder: Path, *scores: float) -> Path:
    folder.mkdir()
    lines = [json.dumps({"seq": seq, "score": score}) for seq, score in enumerate(scores)]
    (folder / "clip.jsonl").write_text("\n".join(lines) + "\n")
    return folder


def test_times_and_memory_are_no_difference():
    one = record(seq=1, rss_mb=80.0).to_json()
    other = record(seq=1, rss_mb=90.0).to_json()
    assert normalised(one) == normalised(other)
    assert normalised(one) != normalised(record(seq=2).to_json())


def test_a_record_that_differs_and_one_that_is_missing_are_found(tmp_path: Path, capsys):
    old = keep(tmp_path / "old", 0.1, 0.2, 0.3)
    assert compare(old, keep(tmp_path / "same", 0.1, 0.2, 0.3)) == 0
    assert compare(old, keep(tmp_path / "changed", 0.1, 0.9, 0.3)) == 1
    assert compare(old, keep(tmp_path / "short", 0.1)) == 2
    assert compare(old, tmp_path / "absent") == 3
    assert "3 of them differ" in capsys.readouterr().out


def test_the_records_of_clips_and_pictures_are_made(tmp_path: Path):
    shared = tmp_path / "shared"
    picture = tmp_path / "p.png"
    (shared / "data").mkdir(parents=True)
    cv2.imwrite(str(picture), np.random.default_rng(0).integers(0, 255, (48, 64, 3), np.uint8))

    writer = cv2.VideoWriter(str(tmp_path / "c.avi"), cv2.VideoWriter.fourcc(*"MJPG"), 5, (64, 48))
    for _ in range(3):
        writer.write(cv2.imread(str(picture)))
    writer.release()

    with zipfile.ZipFile(shared / "data" / "videos.zip", "w") as archive:
        archive.write(tmp_path / "c.avi", "videos/c.avi")
    with zipfile.ZipFile(shared / "data" / "eval.zip", "w") as archive:
        archive.write(picture, "eval/p.png")

    for folder in ("one", "two"):
        make(shared, tmp_path / folder)

    assert len((tmp_path / "one" / "c.jsonl").read_text().splitlines()) == 3
    assert compare(tmp_path / "one", tmp_path / "two") == 0


def test_missing_pictures_are_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["make", str(tmp_path), str(tmp_path / "out")]) == 66
    assert "give the folder that holds data/" in capsys.readouterr().err
    assert main(["compare", str(tmp_path), str(tmp_path)]) == 66
