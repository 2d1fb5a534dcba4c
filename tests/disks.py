"""Real file systems for tests: small ones, full ones, and what a power cut leaves of one."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np

from edge_runtime.sinks.triggers.avi import AviWriter
from tests.commands import missing, need


def fill(path: Path) -> None:
    """Take every block that the disk has left."""
    with path.open("wb") as others:
        for size in (4096, 1):
            try:
                while True:
                    os.write(others.fileno(), b"x" * size)
            except OSError:
                pass


@contextmanager
def small_disk(place: Path, size: str) -> Iterator[Path]:
    """A tmpfs of ``size``, such as 256k or 1m. Skips where this user may not mount one."""
    place.mkdir()
    _mount("-t", "tmpfs", "-o", f"size={size}", "none", place)
    try:
        yield place
    finally:
        subprocess.run(["umount", "-l", place], check=True)


@contextmanager
def ext4_image(image: Path, place: Path) -> Iterator[Path]:
    """A new ext4 file system of 16 MB in the file ``image``, mounted at ``place``."""
    mkfs = need("mkfs.ext4", "e2fsprogs")
    with image.open("wb") as out:
        out.truncate(16 << 20)
    subprocess.run([mkfs, "-q", image], check=True)
    with mounted_image(image, place):
        yield place


@contextmanager
def mounted_image(image: Path, place: Path) -> Iterator[Path]:
    """``image`` mounted at ``place``, its journal replayed first, as after a power cut."""
    place.mkdir()
    _mount("-o", "loop", image, place)
    try:
        yield place
    finally:
        subprocess.run(["umount", "-l", place], check=True)


def _mount(*arguments: str | Path) -> None:
    result = subprocess.run([need("mount", "mount"), *arguments], capture_output=True, text=True)
    if result.returncode:
        error = result.stderr.strip().splitlines()[0]
        missing(f"needs the right to mount a file system (root): {error}")


def video(path: Path, frames: int) -> Path:
    """Small pictures in the colours that the tiny bundle knows."""
    with path.open("wb") as stream:
        avi = AviWriter(stream)
        for i in range(frames):
            picture = np.zeros((32, 32, 3), np.uint8)
            picture[:, :, i // 10 % 3] = 255
            avi.add(bytes(cv2.imencode(".jpg", picture)[1]), i / 30)
        avi.finish()
    return path


def bytes_in(folder: Path) -> int:
    sizes = []
    for path in folder.iterdir():
        try:
            sizes.append(path.stat().st_size)
        except FileNotFoundError:
            continue
    return sum(sizes)
