"""A picture that arrives is given once, when it is complete, whatever its writer does."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge_runtime.camera import arrivals
from edge_runtime.camera.arrivals import LOOK_S, Arrivals


def names(paths: list[Path]) -> list[str]:
    return [path.name for path in paths]


def test_a_picture_is_complete_when_two_looks_find_it_the_same(tmp_path: Path):
    (tmp_path / "a.jpg").write_bytes(b"1")
    watched = Arrivals(tmp_path)
    assert watched.look() == []
    (tmp_path / "b.jpg").write_bytes(b"1")
    assert names(watched.look()) == ["a.jpg"]


@pytest.mark.fault("C23")
def test_a_picture_that_grows_is_left_alone(tmp_path: Path):
    watched = Arrivals(tmp_path)
    growing = tmp_path / "a.jpg"
    for size in range(1, 6):
        growing.write_bytes(b"x" * size)
        assert watched.look() == []
    assert names(watched.look()) == ["a.jpg"]


@pytest.mark.fault("C23")
def test_what_was_taken_is_not_given_again(tmp_path: Path):
    (tmp_path / "a.jpg").write_bytes(b"1")
    watched = Arrivals(tmp_path)
    watched.look()
    (path,) = watched.look()
    watched.took(path, readable=True)
    path.write_bytes(b"another picture")
    assert watched.look() == []
    assert watched.look() == []


@pytest.mark.fault("C23")
def test_what_could_not_be_read_is_given_again_after_it_has_changed(tmp_path: Path):
    (tmp_path / "a.jpg").write_bytes(b"half")
    watched = Arrivals(tmp_path)
    watched.look()
    (path,) = watched.look()
    watched.took(path, readable=False)
    assert watched.look() == []
    assert watched.look() == []
    path.write_bytes(b"half and the rest")
    assert watched.look() == []
    assert watched.look() == [path]


def test_a_name_that_was_gone_is_new(tmp_path: Path):
    path = tmp_path / "a.jpg"
    path.write_bytes(b"1")
    watched = Arrivals(tmp_path)
    watched.look()
    watched.look()
    watched.took(path, readable=True)
    path.unlink()
    assert watched.look() == []
    assert not watched._taken, "a folder that is emptied must not cost memory"
    path.write_bytes(b"2")
    watched.look()
    assert watched.look() == [path]


def test_pictures_are_renamed_in_and_new_folders_are_seen(tmp_path: Path):
    root = tmp_path / "in"
    root.mkdir()
    watched = Arrivals(root)
    (root / ".a.jpg.part").write_bytes(b"1")
    watched.look()
    assert watched.look() == []
    (root / "today").mkdir()
    (root / ".a.jpg.part").rename(root / "today" / "a.jpg")
    watched.look()
    assert watched.look() == [root / "today" / "a.jpg"]


@pytest.mark.fault("C23")
def test_a_folder_that_goes_and_returns_is_waited_for_and_nothing_is_given_twice(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    root = tmp_path / "drive"
    root.mkdir()
    (root / "a.jpg").write_bytes(b"1")
    watched = Arrivals(root)
    watched.look()
    (path,) = watched.look()
    watched.took(path, readable=True)
    root.rename(tmp_path / "unplugged")
    for _ in range(3):
        assert watched.look() == []
    (tmp_path / "unplugged").rename(root)
    assert watched.look() == []
    assert watched.look() == []
    assert [record.message.removeprefix(f"{root}: ") for record in caplog.records] == [
        "is gone, or this user may not read it; waiting",
        "is there again",
    ]


def test_a_large_folder_is_looked_at_less_often(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    watched = Arrivals(tmp_path)
    watched.look()
    assert watched.interval_s == LOOK_S
    now = iter([0.0, 0.5])
    monkeypatch.setattr(arrivals.time, "monotonic", lambda: next(now))
    watched.look()
    assert watched.interval_s == 10
