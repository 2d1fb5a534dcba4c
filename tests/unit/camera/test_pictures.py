"""A picture becomes pixels, or one line that says why not; nothing blocks on the way."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import cv2
import numpy as np
import pytest

from edge_runtime.camera.folder import pictures_below
from edge_runtime.camera.pictures import PICTURE_SUFFIXES, read_picture
from edge_runtime.errors import DataError
from tests.daemon import EDGE_LABEL, REPOSITORY

PICTURE = cv2.imencode(".png", np.full((40, 50, 3), (0, 0, 255), np.uint8))[1].tobytes()


@pytest.mark.fault("C17")
@pytest.mark.parametrize("command", [("once",), ("run", "--camera")])
@pytest.mark.parametrize("asked_for", ["", "x.jpg"])
def test_a_pipe_with_a_pictures_name_blocks_nothing(
    tiny_bundle: Path, tmp_path: Path, command: tuple[str, ...], asked_for: str
):
    root = tmp_path / "pictures"
    root.mkdir()
    (root / "a.png").write_bytes(PICTURE)
    os.mkfifo(root / "x.jpg")
    model = ("--bundle", str(tiny_bundle), "--labels", "colours")
    done = subprocess.run(
        [*EDGE_LABEL, *command, str(root / asked_for), *model],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == (65 if asked_for else 0)
    assert "x.jpg" in done.stderr
    assert "pipe" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_pipe_with_a_videos_name_blocks_nothing(tiny_bundle: Path, tmp_path: Path):
    os.mkfifo(tmp_path / "x.mp4")
    command = [
        *EDGE_LABEL,
        "--camera",
        str(tmp_path / "x.mp4"),
        "--bundle",
        str(tiny_bundle),
        "--labels",
        "colours",
    ]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=60)
    assert done.returncode == 65
    assert "is a pipe, a socket or a device" in done.stderr


def test_a_heic_file_under_another_name_is_told_apart_from_a_broken_picture(tmp_path: Path):
    path = tmp_path / "IMG_0001.jpg"
    path.write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(99))
    with pytest.raises(DataError, match=r"IMG_0001.jpg: a HEIC picture, whatever its name says"):
        read_picture(path)


@pytest.mark.fault("C17")
def test_every_suffix_that_counts_as_a_picture_is_one_that_opencv_reads(tmp_path: Path):
    """AVIF, JPEG 2000 and GIF depend on how OpenCV was built: what it cannot write is left out."""
    colour = np.random.default_rng(0).integers(0, 255, (40, 50, 3), np.uint8)
    for suffix in sorted(PICTURE_SUFFIXES):
        path = tmp_path / f"x{suffix}"
        picture = colour[..., 0] if suffix in (".pgm", ".pbm") else colour
        try:
            encoded = cv2.imencode(".jpg" if suffix == ".jfif" else suffix, picture)[1]
        except cv2.error:
            continue
        path.write_bytes(encoded.tobytes())
        assert read_picture(path).shape[:2] == (40, 50), suffix
        assert pictures_below(tmp_path) == [path]
        path.unlink()


@pytest.mark.fault("C23")
@pytest.mark.parametrize(
    "suffix", [".jpg", ".png", ".webp", ".bmp", ".tif", ".ppm", ".jp2", ".avif", ".gif"]
)
def test_the_first_half_of_a_picture_is_none(tmp_path: Path, suffix: str):
    """A folder may be watched while another program writes into it."""
    small = np.random.default_rng(0).integers(0, 255, (60, 80, 3), np.uint8)
    path = tmp_path / f"x{suffix}"
    assert cv2.imwrite(str(path), cv2.resize(small, (800, 600), interpolation=cv2.INTER_CUBIC))
    whole = path.read_bytes()
    assert read_picture(path).shape == (600, 800, 3)
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError):
        read_picture(path)
