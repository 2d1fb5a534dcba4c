"""Files are read completely and in order; what cannot be read is said once and passed over."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest

from edge_runtime.camera import open_source
from edge_runtime.camera.replay import PictureFolder, VideoFile
from edge_runtime.config import CameraConfig
from edge_runtime.errors import DataError, NoInputError
from edge_runtime.records import Frame


def frames(source) -> list[Frame]:
    out = []
    while (frame := source.read(0)) is not None:
        out.append(frame)
    source.close()
    return out


@pytest.fixture
def video(tmp_path: Path) -> Path:
    """Twelve frames, each a shade brighter, at 24 FPS."""
    path = tmp_path / "v.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 24, (64, 48))
    for shade in range(12):
        writer.write(np.full((48, 64, 3), 20 * shade, np.uint8))
    writer.release()
    return path


def shades(found: list[Frame]) -> list[int]:
    return [round(float(f.data.mean()) / 20) for f in found]


def test_every_frame_of_a_video_comes_once_in_order(video: Path):
    source = open_source(CameraConfig(source=str(video)))
    assert not source.live
    assert shades(frames(source)) == list(range(12))
    assert source.ended


def test_a_video_that_is_cut_off_says_how_much_of_it_was_there(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    path, rng = tmp_path / "noise.avi", np.random.default_rng(0)
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 24, (320, 240))
    for _ in range(12):
        writer.write(rng.integers(0, 255, (240, 320, 3), np.uint8))
    writer.release()
    assert len(frames(VideoFile(path, CameraConfig()))) == 12
    assert caplog.text == ""
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    found = len(frames(VideoFile(path, CameraConfig())))
    assert 0 < found < 10
    assert f"ended after {found} of about 12 frames; is it cut off?" in caplog.text


def test_half_a_jpeg_is_passed_over_and_what_stands_around_a_whole_one_does_not_matter(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    picture = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
    jpeg = cv2.imencode(".jpg", picture)[1].tobytes()
    thumbnail = b"\xff\xe1" + (2 + len(jpeg)).to_bytes(2, "big") + jpeg  # a whole JPEG among the headers
    whole, half = jpeg[:2] + thumbnail + jpeg[2:], jpeg[:2] + thumbnail + jpeg[2 : len(jpeg) // 2]
    (tmp_path / "a.jpg").write_bytes(half)
    (tmp_path / "b.jpg").write_bytes(whole + b"a phone's own data")
    assert [frame.file for frame in frames(PictureFolder(tmp_path, CameraConfig()))] == ["b.jpg"]
    assert "a.jpg: a JPEG that is cut off" in caplog.text


def test_loop_starts_again(video: Path):
    source = VideoFile(video, CameraConfig(loop=True))
    assert shades([source.read(0) for _ in range(26)]) == [*range(12), *range(12), 0, 1]


def test_realtime_keeps_the_frame_rate(video: Path):
    start = time.monotonic()
    waits = [f.wait_ms for f in frames(VideoFile(video, CameraConfig(realtime=True)))]
    assert time.monotonic() - start >= 11 / 24
    assert sum(waits) >= 300


def test_pictures_come_sorted_with_their_names(tmp_path: Path):
    for name in ("b.png", "a/z.jpg", "c.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        if name.endswith("txt"):
            (tmp_path / name).write_text("no picture")
        else:
            cv2.imwrite(str(tmp_path / name), np.zeros((40, 50, 3), np.uint8))
    assert [f.file for f in frames(PictureFolder(tmp_path, CameraConfig()))] == ["a/z.jpg", "b.png"]


def test_a_broken_picture_is_logged_counted_and_passed_over(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    (tmp_path / "a.png").write_bytes(b"not a picture")
    cv2.imwrite(str(tmp_path / "b.png"), np.zeros((40, 50, 3), np.uint8))
    source = PictureFolder(tmp_path, CameraConfig())
    with caplog.at_level(logging.WARNING):
        assert [f.file for f in frames(source)] == ["b.png"]
    assert source.broken == 1
    assert "a.png: not a picture" in caplog.text


def test_a_name_that_is_not_utf8_is_passed_over_and_ends_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    """OpenCV 5 crashes on such a name."""
    cv2.imwrite(str(tmp_path / "a.png"), np.zeros((40, 50, 3), np.uint8))
    os.link(tmp_path / "a.png", os.fsencode(tmp_path) + b"/caf\xe9.png")
    with caplog.at_level(logging.WARNING):
        assert [f.file for f in frames(PictureFolder(tmp_path, CameraConfig()))] == ["a.png"]
    assert "its name is not UTF-8; rename it" in caplog.text
    os.link(tmp_path / "a.png", os.fsencode(tmp_path) + b"/caf\xe9.mp4")
    with pytest.raises(DataError, match="not UTF-8"):
        open_source(CameraConfig(source=os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.mp4")))


@pytest.mark.fault("G2")
def test_a_picture_bomb_is_refused_before_it_is_decoded(tmp_path: Path):
    """A whole, valid picture of 81 megapixels in 10 kB: OpenCV's own limit would let it through."""
    import struct
    import zlib

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 9_000, 9_000, 1, 0, 0, 0, 0)  # one bit a pixel
    bomb = (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(bytes(9_000 * (1 + 9_000 // 8))))
        + chunk(b"IEND", b"")
    )
    (tmp_path / "bomb.png").write_bytes(bomb)
    # In a process of its own: OpenCV reads its limit when it loads, and these tests have loaded it already.
    code = "import sys, pathlib; from edge_runtime.camera.replay import *; read_picture(pathlib.Path(sys.argv[1]))"
    command = [sys.executable, "-c", code, str(tmp_path / "bomb.png")]
    done = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[3], timeout=60)
    assert "DataError" in done.stderr
    assert "over 64 megapixels" in done.stderr


@pytest.mark.parametrize(
    ("name", "content", "error", "says"),
    [
        ("none.mp4", None, NoInputError, "no such file"),
        ("x.mp4", b"not a video", DataError, "not a video"),
        ("x.mp4", b"", DataError, "not a video"),
        ("x.png", b"", DataError, "x.png: not a picture"),
    ],
)
def test_input_that_cannot_be_read_is_one_line(
    tmp_path: Path, name: str, content: bytes | None, error: type, says: str
):
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(error, match=says):
        frames(open_source(CameraConfig(source=str(path))))


@pytest.mark.parametrize(
    ("name", "pixels", "encoding", "dtype"),
    [
        ("colour.png", np.full((40, 50, 3), 7, np.uint8), "bgr", "uint8"),
        ("alpha.png", np.full((40, 50, 4), 7, np.uint8), "bgr", "uint8"),
        ("colour16.png", np.full((40, 50, 3), 0x0750, np.uint16), "bgr", "uint8"),
        ("grey.png", np.full((40, 50), 7, np.uint8), "grey", "uint8"),
        ("depth.png", np.full((40, 50), 1234, np.uint16), "y16", "uint16"),
        ("metres.tiff", np.full((40, 50), 1.5, np.float32), "f32", "float32"),
    ],
)
def test_infrared_and_depth_keep_their_bits(tmp_path: Path, name: str, pixels: np.ndarray, encoding: str, dtype: str):
    cv2.imwrite(str(tmp_path / name), pixels)
    (frame,) = frames(PictureFolder(tmp_path, CameraConfig()))
    assert (frame.encoding, frame.data.dtype) == (encoding, dtype)
    assert frame.data.flat[0] == (7 if dtype == "uint8" else pixels.flat[0])


def test_pixels_that_are_no_picture_are_passed_over(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    cv2.imwrite(str(tmp_path / "a.tiff"), np.full((40, 50), -3, np.int16))
    cv2.imwrite(str(tmp_path / "b.png"), np.zeros((40, 50), np.uint8))
    with caplog.at_level(logging.WARNING):
        assert [f.file for f in frames(PictureFolder(tmp_path, CameraConfig()))] == ["b.png"]
    assert "a.tiff: pixels of int16 are not a picture" in caplog.text


def test_an_empty_folder_is_an_error(tmp_path: Path):
    with pytest.raises(DataError, match="no pictures in it"):
        open_source(CameraConfig(source=str(tmp_path)))
