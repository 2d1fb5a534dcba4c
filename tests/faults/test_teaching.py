"""Teaching with pictures that may be anything, on disks that may be full: the old file stays."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from edge_runtime.model.labels.phrase_rows import rows_path
from tests.disks import fill, small_disk
from tests.faults.test_reload import MODES_COUNT
from tests.teaching_pictures import WRONG_WORDS, labels, picture, pictures

BUDGET_MB = 180


@pytest.fixture
def label_set(tmp_path: Path, tiny_bundle: Path) -> Path:
    """A label set that is taught already."""
    path = tmp_path / "my.yaml"
    path.write_text(WRONG_WORDS)
    root = pictures(tmp_path / "first", apple="red", lawn="green")
    assert labels("learn", path, tiny_bundle, root) == 0
    return path


def refused(label_set: Path, bundle: Path, root: Path, code: int, capsys) -> str:
    """Learn ends with this code and one line, which is returned; the old file stays as it was."""
    old = rows_path(label_set).read_bytes()
    capsys.readouterr()

    assert labels("learn", label_set, bundle, root) == code

    assert rows_path(label_set).read_bytes() == old
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    return err


@pytest.mark.fault("L1")
def test_pictures_that_cannot_teach_are_one_line_and_the_old_file_stays(
    tiny_bundle: Path, label_set: Path, tmp_path: Path, capsys
):
    assert "no such folder" in refused(label_set, tiny_bundle, tmp_path / "none", 66, capsys)

    root = tmp_path / "p"
    root.mkdir()
    assert "no teaching pictures" in refused(label_set, tiny_bundle, root, 65, capsys)

    picture(root / "apple" / "1.png", "red", 1)
    nothing = "all pictures are of 'apple', so there is nothing to tell it from"
    assert nothing in refused(label_set, tiny_bundle, root, 65, capsys)
    picture(root / "apple" / "2.png", "red", 2)
    assert nothing in refused(label_set, tiny_bundle, root, 65, capsys)


@pytest.mark.fault("L2")
def test_one_picture_under_two_labels_names_both_files(
    tiny_bundle: Path, label_set: Path, tmp_path: Path, capsys
):
    root = pictures(tmp_path / "p", apple="red", lawn="green")
    shutil.copy(root / "apple" / "1.png", root / "lawn" / "copy.png")
    line = refused(label_set, tiny_bundle, root, 65, capsys)
    assert f"{root}/apple/1.png and {root}/lawn/copy.png: the same picture under" in line


@pytest.mark.fault("L3")
def test_unreadable_pictures_are_named_and_the_others_teach(
    tiny_bundle: Path, label_set: Path, tmp_path: Path, capsys, caplog
):
    root = pictures(tmp_path / "p", apple="red", lawn="green")
    (root / "apple" / "broken.png").write_bytes(b"broken")
    (root / "lawn" / "half.jpg").write_bytes(b"\xff\xd8\xff\xe0half")

    assert labels("learn", label_set, tiny_bundle, root) == 0
    assert "8 pictures taught 2 labels" in capsys.readouterr().out
    lines = [record.getMessage() for record in caplog.records]
    assert [f"left out: {root}/apple/broken.png: " in line for line in lines] == [True, False]

    for path in root.rglob("*.*"):
        path.write_bytes(b"broken")
    old = rows_path(label_set).read_bytes()
    assert labels("learn", label_set, tiny_bundle, root) == 65
    assert "none of the 10 pictures can be read" in capsys.readouterr().err
    assert rows_path(label_set).read_bytes() == old


@pytest.mark.fault("L4")
def test_ten_thousand_pictures_stay_within_memory(tiny_bundle: Path, label_set: Path, tmp_path):
    root = pictures(tmp_path / "p", apple="red", lawn="green")
    for i in range(10_000):
        folder, colour = (("apple", "red"), ("lawn", "green"))[i % 2]
        picture(root / folder / f"many{i:05}.png", colour, i)
    code = (
        "import sys, edge_runtime.cli as cli; code = cli.main(sys.argv[1:]); "
        "print([line for line in open('/proc/self/status') if 'VmHWM' in line][0]); sys.exit(code)"
    )
    arguments = ["labels", "learn", label_set, root, "--bundle", tiny_bundle]
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)], capture_output=True, text=True
    )

    assert done.returncode == 0, done.stderr
    assert "group labels: 10008 pictures, more than 1000" in done.stderr
    assert "1000 pictures taught 2 labels" in done.stdout
    assert int(done.stdout.split()[-2]) / 1000 < BUDGET_MB


@pytest.mark.fault("L5")
def test_a_folder_of_no_label_is_refused_with_the_nearest(
    tiny_bundle: Path, label_set: Path, tmp_path: Path, capsys
):
    root = pictures(tmp_path / "p", apple="red", lown="green")
    line = refused(label_set, tiny_bundle, root, 65, capsys)
    assert line == (
        f"edge-label: {root}/lown: the label set has no label 'lown'; did you mean 'lawn'?\n"
    )


@pytest.mark.fault("L6")
def test_on_a_full_disk_the_old_file_stays_whole(
    tiny_bundle: Path, tmp_path: Path, capsys, monkeypatch
):
    root = pictures(tmp_path / "p", apple="red", lawn="green")
    with small_disk(tmp_path / "disk", "256k") as disk:
        path = disk / "my.yaml"
        path.write_text(WRONG_WORDS)
        assert labels("learn", path, tiny_bundle, root) == 0
        fill(disk / "others")
        pictures(root, none="blue")
        line = refused(path, tiny_bundle, root, 65, capsys)
        assert "my.embeddings: cannot write: No space left on device; the old file" in line
        assert sorted(file.name for file in disk.iterdir()) == [
            "my.embeddings",
            "my.yaml",
            "others",
        ]


@pytest.mark.fault("L7")
def test_a_full_disk_of_the_cache_costs_time_only(
    tiny_bundle: Path, tmp_path: Path, monkeypatch, caplog
):
    path = tmp_path / "my.yaml"
    path.write_text(WRONG_WORDS)
    root = pictures(tmp_path / "p", apple="red", lawn="green")
    with small_disk(tmp_path / "disk", "64k") as disk:
        monkeypatch.setenv("STATE_DIRECTORY", str(disk))
        fill(disk / "others")
        assert labels("learn", path, tiny_bundle, root) == 0
    lines = [record.getMessage() for record in caplog.records]
    assert len(lines) == 1
    assert "pictures are not remembered: " in lines[0]


@pytest.mark.fault("L8")
def test_no_permission_beside_the_label_set_is_said_before_any_picture_is_read(
    tiny_bundle: Path, label_set: Path, tmp_path: Path
):
    root = pictures(tmp_path / "p", apple="red", lawn="green", none="blue")
    folder = tmp_path / "closed"
    folder.mkdir()
    shutil.copy(label_set, folder)
    folder.chmod(0o555)
    arguments = ["labels", "learn", folder / "my.yaml", root, "--bundle", tiny_bundle]
    done = subprocess.run(
        [*MODES_COUNT, *map(str, arguments)],
        capture_output=True,
        text=True,
        env={**os.environ, "STATE_DIRECTORY": str(tmp_path / "fresh")},
    )

    assert done.returncode == 65
    assert done.stderr == (
        f"edge-label: {folder}: this user may not write there, where my.embeddings would go; "
        "run this as its owner, or copy the label set to a folder of yours\n"
    )
    assert not (tmp_path / "fresh").exists()
