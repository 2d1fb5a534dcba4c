"""Which picture teaches which label: folders, odd names, captures, and what is left out."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from edge_runtime.commands import teaching_pictures
from edge_runtime.commands.teaching_pictures import (
    TeachingPicture,
    choose_pictures,
    find_pictures,
)
from edge_runtime.errors import DataError, NoInputError
from edge_runtime.model.bundle import load_bundle
from edge_runtime.model.labels.compiled import compile_labels
from edge_runtime.model.labels.label_set import parse_label_set
from edge_runtime.model.labels.taught import NONE
from edge_runtime.model.labels.text_bank import TextBank
from edge_runtime.sinks.triggers.sink import SCHEMA

SET = parse_label_set(
    "labels: [snowy road, wet/icy road, {name: night, group: time}, {name: none, group: odd}]\n",
    "x",
)


def touch(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def capture(path: Path, *on: str, off: tuple[str, ...] = (), schema: str = SCHEMA) -> Path:
    touch(path)
    labels = [{"name": name, "score": 0.5, "margin": 0.1, "on": True} for name in on]
    labels += [{"name": name, "score": 0.2, "margin": -0.1, "on": False} for name in off]
    sidecar = {"schema": schema, "rule": "r", "file": path.name, "record": {"labels": labels}}
    path.with_suffix(".json").write_text(json.dumps(sidecar))
    return path


def found(root: Path) -> dict[str, tuple[str, ...]]:
    return {str(one.path.relative_to(root)): one.labels for one in find_pictures(root, SET)}


def test_a_folder_is_a_label_whatever_its_case_and_depth(tmp_path: Path):
    touch(
        tmp_path / "Snowy  Road" / "a.jpg",
        tmp_path / "Snowy  Road" / "monday" / "b.PNG",
        tmp_path / "wet%2Ficy road" / "c.webp",
        tmp_path / "none" / "d.jpg",
        tmp_path / "%6Eone" / "e.jpg",
        tmp_path / ".hidden" / "f.jpg",
    )
    assert found(tmp_path) == {
        "%6Eone/e.jpg": ("none",),
        "Snowy  Road/a.jpg": ("snowy road",),
        "Snowy  Road/monday/b.PNG": ("snowy road",),
        "none/d.jpg": (NONE,),
        "wet%2Ficy road/c.webp": ("wet/icy road",),
    }


def test_a_capture_shows_the_labels_that_were_on(tmp_path: Path):
    capture(tmp_path / "1-r.jpg", "snowy road", "night", off=("wet/icy road",))
    assert found(tmp_path) == {"1-r.jpg": ("snowy road", "night")}


def test_the_folder_that_a_person_chose_wins_over_the_sidecar(tmp_path: Path):
    capture(tmp_path / "wet%2Ficy road" / "1-r.jpg", "snowy road")
    assert found(tmp_path) == {"wet%2Ficy road/1-r.jpg": ("wet/icy road",)}


def test_pictures_that_show_no_label_are_counted_and_left_out(tmp_path: Path, caplog):
    capture(tmp_path / "1-r.jpg", "snowy road")
    capture(tmp_path / "2-r.jpg", off=("snowy road",))
    capture(tmp_path / "3-r.jpg", "a label of another set")
    capture(tmp_path / "4-r.jpg", "snowy road", schema="another")
    touch(tmp_path / "5.jpg", tmp_path / "6.jpg", tmp_path / "7-r.avi")
    (tmp_path / "6.json").write_text("[" * 10_000)

    assert list(found(tmp_path)) == ["1-r.jpg"]
    (record,) = caplog.records
    assert "left out: 5 pictures that lie in no label's folder" in record.getMessage()
    assert record.getMessage().endswith("the first is 2-r.jpg")


def test_a_folder_of_no_label_is_refused_with_what_is_near(tmp_path: Path):
    touch(tmp_path / "snowy rode" / "a.jpg")
    with pytest.raises(DataError) as error:
        find_pictures(tmp_path, SET)
    assert str(error.value) == (
        f"{tmp_path}/snowy rode: the label set has no label 'snowy rode'; "
        "did you mean 'snowy road'?"
    )


def test_an_empty_folder_teaches_nothing_and_says_so(tmp_path: Path, caplog):
    touch(tmp_path / "night" / "a.jpg")
    (tmp_path / "snowy road").mkdir()
    assert list(found(tmp_path)) == ["night/a.jpg"]
    (record,) = caplog.records
    assert record.getMessage().endswith("it teaches nothing")


def test_no_folder_no_pictures_and_a_file_are_one_line_each(tmp_path: Path):
    with pytest.raises(NoInputError, match="no such folder; give the folder"):
        find_pictures(tmp_path / "nowhere", SET)
    with pytest.raises(DataError, match="no teaching pictures in it; put some into"):
        find_pictures(tmp_path, SET)
    touch(tmp_path / "a.jpg")
    with pytest.raises(DataError, match="is not a folder"):
        find_pictures(tmp_path / "a.jpg", SET)


def test_of_too_many_pictures_an_even_choice_teaches(tiny_bundle: Path, monkeypatch, caplog):
    monkeypatch.setattr(teaching_pictures, "MOST_PICTURES", 10)
    bundle = load_bundle(tiny_bundle)
    label_set = parse_label_set("labels: [red, green, {name: blue, group: b}]\n", "x")
    words = compile_labels(label_set, bundle, TextBank.from_bundle(bundle))
    many = [TeachingPicture(Path(f"r{i:03}"), ("red",)) for i in range(100)]
    few = [TeachingPicture(Path(f"g{i}"), ("green",)) for i in range(3)]
    others = [TeachingPicture(Path(f"b{i}"), ("blue",)) for i in range(9)]

    chosen = [str(one.path) for one in choose_pictures([*many, *few, *others], words)]
    assert chosen[:7] == ["r000", "r016", "r033", "r050", "r066", "r082", "r099"]
    assert chosen[7:10] == ["g0", "g1", "g2"]
    assert len(chosen) == 7 + 3 + 9
    (record,) = caplog.records
    assert "group labels: 103 pictures" in record.getMessage()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_folder_that_this_user_may_not_read_is_one_line(tmp_path: Path):
    tmp_path.chmod(0o300)
    with pytest.raises(DataError, match="Permission denied; check it with ls -ld"):
        find_pictures(tmp_path, SET)
