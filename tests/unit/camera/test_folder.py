"""Of a folder only the user's own pictures are taken; what else may be missed is logged."""

from __future__ import annotations

import logging
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from edge_runtime.camera.folder import pictures_below
from tests.daemon import REPOSITORY

PICTURE = cv2.imencode(".png", np.full((40, 50, 3), (0, 0, 255), np.uint8))[1].tobytes()


def lay(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(PICTURE)


def names(root: Path) -> list[str]:
    return [str(path.relative_to(root)) for path in pictures_below(root)]


@pytest.mark.fault("C17")
def test_what_systems_and_file_servers_keep_beside_pictures_is_not_the_users(tmp_path: Path):
    lay(tmp_path, "b.jpg", "below/a.jpg")
    lay(
        tmp_path,
        "._b.jpg",
        ".thumbnails/x.png",
        ".Trash-1000/y.png",
        "@eaDir/b.jpg/SYNOPHOTO_THUMB_M.jpg",
    )
    lay(tmp_path, "__MACOSX/._b.jpg", "#recycle/z.png", "Thumbs.db", "below/.hidden.png")
    assert names(tmp_path) == ["b.jpg", "below/a.jpg"]


def test_a_hidden_folder_that_is_asked_for_is_the_users(tmp_path: Path):
    lay(tmp_path / ".photos", "a.jpg")
    assert names(tmp_path / ".photos") == ["a.jpg"]


@pytest.mark.fault("C17")
def test_a_linked_folder_is_followed_once_and_never_in_a_circle(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    root = tmp_path / "root"
    elsewhere = tmp_path / "elsewhere"
    lay(root, "b/own.png")
    lay(elsewhere, "far.png", "deep/farther.png")
    (root / "a-first").symlink_to(root / "b")  # sorts before the folder it leads to
    (root / "c").symlink_to(elsewhere)
    (root / "d").symlink_to(elsewhere / "deep")
    (elsewhere / "back").symlink_to(root)
    (root / "self").symlink_to("self")
    (root / "loop.png").symlink_to("loop.png")
    (root / "up").symlink_to("..")
    with caplog.at_level(logging.WARNING):
        assert names(root) == ["b/own.png", "c/deep/farther.png", "c/far.png"]
    assert f"2 symbolic links to a folder above; the first is {root}/c/back" in caplog.text
    assert "1 pipes, devices or broken links with a picture's name" in caplog.text


@pytest.mark.fault("C17")
def test_a_folder_may_be_called_like_a_picture(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    lay(tmp_path, "holiday.jpg/a.png")
    assert names(tmp_path) == ["holiday.jpg/a.png"]
    assert caplog.text == ""


@pytest.mark.fault("C17")
def test_formats_that_opencv_does_not_read_are_named_with_what_to_do(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    lay(tmp_path, "a.jpg", "b.heic", "c.HEIC", "d/e.heic", "f.cr2", "notes.txt")
    with caplog.at_level(logging.WARNING):
        assert names(tmp_path) == ["a.jpg"]
    assert "left out: 3 .heic files that OpenCV does not read: convert them first" in caplog.text
    assert "mogrify -format jpg *.heic" in caplog.text
    assert "left out: 1 .cr2 files" in caplog.text
    assert "notes.txt" not in caplog.text


def test_folders_that_may_not_be_read_are_said(tmp_path: Path):
    """In a process of another user: nothing is closed to root."""
    root = tmp_path / "root"
    lay(root, "a.png", "closed/b.png")
    (root / "closed").chmod(0)
    code = (
        "import os, sys, logging, pathlib; logging.basicConfig()\n"
        "from edge_runtime.camera.folder import pictures_below\n"
        "os.chdir(sys.argv[1])\n"
        "if os.getuid() == 0: os.setuid(65534)\n"
        "print(len(pictures_below(pathlib.Path('.'))))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(root)], capture_output=True, text=True, cwd=REPOSITORY
    )
    (root / "closed").chmod(0o755)
    assert done.stdout.strip() == "1", done.stderr
    assert "left out: 1 folders that cannot be read (Permission denied)" in done.stderr
