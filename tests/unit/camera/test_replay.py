"""Files are read completely and in order; what cannot be read is said once and passed over."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from edge_runtime.camera import open_source
from edge_runtime.camera.decode import FULL_SIZE, decode
from edge_runtime.camera.replay import PictureFolder, VideoFile
from edge_runtime.config import CameraConfig
from edge_runtime.errors import DataError, NoInputError
from edge_runtime.records import Frame
from tests.commands import need
from tests.matroska import matroska
from tests.paths import REPOSITORY


def frames(source) -> list[Frame]:
    """All frames of a source, which is then closed."""
    delivered = list(iter(lambda: source.read(10), None))
    source.close()
    return delivered


@pytest.fixture
def video(tmp_path: Path) -> Path:
    """Twelve frames, each a shade brighter, at 24 FPS."""
    path = tmp_path / "v.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 24, (64, 48))
    for shade in range(12):
        writer.write(np.full((48, 64, 3), 20 * shade, np.uint8))
    writer.release()
    return path


def shades(delivered: list[Frame]) -> list[int]:
    """Which of the twelve frames these are."""
    return [round(float(f.data.mean()) / 20) for f in delivered]


def test_every_frame_of_a_video_comes_once_in_order(video: Path):
    source = open_source(CameraConfig(source=str(video)))
    assert not source.live
    assert shades(frames(source)) == list(range(12))
    assert source.ended


def test_a_video_that_is_cut_off_says_how_much_of_it_was_there(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    path = tmp_path / "noise.avi"
    rng = np.random.default_rng(0)
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 24, (320, 240))
    for _ in range(12):
        writer.write(rng.integers(0, 255, (240, 320, 3), np.uint8))
    writer.release()
    assert len(frames(VideoFile(path, CameraConfig()))) == 12
    assert caplog.text == ""
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    count = len(frames(VideoFile(path, CameraConfig())))
    assert 0 < count < 10
    assert f"ended after {count} of about 12 frames; is it cut off?" in caplog.text


def test_half_a_jpeg_is_passed_over_and_what_stands_around_a_whole_one_does_not_matter(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    picture = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
    jpeg = cv2.imencode(".jpg", picture)[1].tobytes()
    thumbnail = (
        b"\xff\xe1" + (2 + len(jpeg)).to_bytes(2, "big") + jpeg
    )  # a whole JPEG among the headers
    whole = jpeg[:2] + thumbnail + jpeg[2:]
    half = jpeg[:2] + thumbnail + jpeg[2 : len(jpeg) // 2]
    (tmp_path / "a.jpg").write_bytes(half)
    (tmp_path / "b.jpg").write_bytes(whole + b"a phone's own data")
    assert [frame.file for frame in frames(PictureFolder(tmp_path, CameraConfig()))] == ["b.jpg"]
    assert "a.jpg: a JPEG that is cut off" in caplog.text


def test_loop_starts_again(video: Path):
    source = VideoFile(video, CameraConfig(loop=True))
    assert shades([source.read(0) for _ in range(26)]) == [*range(12), *range(12), 0, 1]


@pytest.mark.fault("C12")
@pytest.mark.parametrize(
    "name",
    [
        *(
            "2026-03-29T02:30:00.avi",
            "concat:a|b.avi",
            "file:x.avi",
            "pipe:0.avi",
            "http://x.avi",
            "folder: with/v.avi",
        ),
        *(
            "%03d.avi",
            "-x.avi",
            "a?b#c&d%20.avi",
            "subfile,,start,0,end,9,,:v.avi",
            "[a-z]*.avi",
            " v.avi",
        ),
    ],
)
@pytest.mark.parametrize("absolute", [False, True])
def test_a_videos_name_is_never_taken_for_a_protocol_a_pattern_or_an_option(
    video: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, absolute: bool
):
    path = tmp_path / "here" / name
    path.parent.mkdir(parents=True)
    video.rename(path)
    monkeypatch.chdir(tmp_path / "here")
    source = open_source(CameraConfig(source=str(path) if absolute else name))
    assert shades(frames(source)) == list(range(12))


@pytest.mark.fault("C12")
@pytest.mark.parametrize(
    "name", ["02:30:00.png", "%03d.png", "-x.png", "concat:x.png", "[a]*.png", "a: b/c.png"]
)
def test_a_pictures_name_is_never_taken_for_a_protocol_a_pattern_or_an_option(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
):
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_bytes(
        cv2.imencode(".png", np.zeros((40, 50, 3), np.uint8))[1].tobytes()
    )
    monkeypatch.chdir(tmp_path)
    for source in (name, str(tmp_path / name), "."):
        assert len(frames(open_source(CameraConfig(source=source)))) == 1


JPEGS = [
    cv2.imencode(".jpg", np.full((48, 64, 3), 20 * shade, np.uint8))[1].tobytes()
    for shade in range(12)
]
UNEVEN = [
    0,
    17,
    50,
    91,
    251,
    252,
    300,
    420,
    1020,
    1053,
    1086,
    1500,
]  # milliseconds, as a phone in bad light


def uneven(path: Path, times: list[int] = UNEVEN) -> Path:
    """A recording without a rate, as browsers make."""
    path.write_bytes(matroska(zip(times, JPEGS, strict=True), (64, 48)))
    return path


@pytest.mark.fault("C13")
def test_frames_have_the_times_that_the_recording_gives_them(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    path = uneven(tmp_path / "v.mkv")
    assert cv2.VideoCapture(str(path)).get(cv2.CAP_PROP_FPS) == 1000
    delivered = frames(VideoFile(path, CameraConfig()))
    assert shades(delivered) == list(range(12))
    assert [round(1e3 * f.video_s) for f in delivered] == UNEVEN
    assert caplog.text == "", "a recording without a rate is not cut off"


@pytest.mark.fault("C13")
def test_realtime_takes_as_long_as_the_recording(tmp_path: Path):
    start = time.monotonic()
    delivered = frames(VideoFile(uneven(tmp_path / "v.mkv"), CameraConfig(realtime=True)))
    shown_s = [f.captured_s - start for f in delivered]
    assert shown_s[-1] >= 1.5
    assert all(at_s >= f.video_s for at_s, f in zip(shown_s, delivered, strict=True))


@pytest.mark.fault("C13")
def test_a_wait_for_the_next_frame_is_no_longer_than_asked(tmp_path: Path):
    source = VideoFile(
        uneven(tmp_path / "v.mkv", [*range(11), 40_000]), CameraConfig(realtime=True)
    )
    for _ in range(11):
        assert source.read(10) is not None
    start = time.monotonic()
    assert source.read(0.1) is None
    assert not source.ended
    assert time.monotonic() - start < 20
    source.close()


@pytest.mark.fault("C13")
def test_times_that_go_back_or_leap_are_replaced_by_the_rate(tmp_path: Path):
    """The camera's clock was set while it recorded: nobody waits, and time never goes back."""
    leaps = [500, 533, 100, 133, 5_000_000, 5_000_033, 5_000_033, 5_000_066, 5_000_100, 0, 33, 66]
    delivered = frames(VideoFile(uneven(tmp_path / "v.mkv", leaps), CameraConfig(fps=30)))
    steps = np.diff([f.video_s for f in delivered])
    assert delivered[0].video_s == 0
    assert len(delivered) == 12
    assert ((steps > 0.03) & (steps < 0.04)).all(), steps


@pytest.mark.fault("C13")
@pytest.mark.parametrize("kind", ["even", "uneven"])
def test_a_loop_goes_on_in_time_also_where_a_recording_has_no_index(
    video: Path, tmp_path: Path, kind: str
):
    path = video if kind == "even" else uneven(tmp_path / "v.mkv")
    source = VideoFile(path, CameraConfig(loop=True))
    delivered = [source.read(0) for _ in range(26)]
    source.close()
    assert shades(delivered) == [*range(12), *range(12), 0, 1]
    times = [f.video_s for f in delivered]
    assert (np.diff(times) > 0).all()
    assert times[12] - times[11] == pytest.approx(1 / 24 if kind == "even" else 1 / 30)


@pytest.mark.fault("C13")
def test_a_webm_that_really_has_no_even_rate_keeps_its_times(tmp_path: Path):
    """VP8 frames as in a browser's screen recording: ten a second, then one for half a second."""
    ffmpeg = need("ffmpeg", "ffmpeg")
    path = tmp_path / "v.webm"
    choose = "select='lt(mod(n,30),6)+eq(mod(n,30),20)'"
    clip = [
        "-f",
        "lavfi",
        "-i",
        "testsrc=size=64x48:rate=30:duration=4",
        "-vf",
        choose,
        "-vsync",
        "vfr",
    ]
    subprocess.run(
        [ffmpeg, "-v", "error", *clip, "-c:v", "libvpx", str(path)], check=True, timeout=60
    )
    delivered = frames(VideoFile(path, CameraConfig()))
    expected = [n / 30 for n in range(120) if n % 30 < 6 or n % 30 == 20]
    assert [f.video_s for f in delivered] == pytest.approx(expected, abs=0.002)


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


def test_a_broken_picture_is_logged_counted_and_passed_over(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    (tmp_path / "a.png").write_bytes(b"not a picture")
    cv2.imwrite(str(tmp_path / "b.png"), np.zeros((40, 50, 3), np.uint8))
    source = PictureFolder(tmp_path, CameraConfig())
    with caplog.at_level(logging.WARNING):
        assert [f.file for f in frames(source)] == ["b.png"]
    assert source.broken == 1
    assert "a.png: not a picture" in caplog.text


def test_a_broken_picture_is_named_once_however_often_a_loop_comes_by(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    (tmp_path / "a.png").write_bytes(b"not a picture")
    cv2.imwrite(str(tmp_path / "b.png"), np.zeros((40, 50, 3), np.uint8))
    source = PictureFolder(tmp_path, CameraConfig(loop=True))
    assert [source.read(0).file for _ in range(5)] == ["b.png"] * 5
    assert caplog.text.count("a.png") == 1


def test_a_name_that_is_not_utf8_is_passed_over_and_ends_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
):
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
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    header = struct.pack(">IIBBBBB", 9_000, 9_000, 1, 0, 0, 0, 0)  # one bit a pixel
    bomb = (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(bytes(9_000 * (1 + 9_000 // 8))))
        + chunk(b"IEND", b"")
    )
    (tmp_path / "bomb.png").write_bytes(bomb)
    # In a process of its own: OpenCV reads its limit when it loads, and it is loaded here already.
    code = (
        "import pathlib, sys; from edge_runtime.camera.pictures import read_picture\n"
        "read_picture(pathlib.Path(sys.argv[1]))"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "bomb.png")]
    done = subprocess.run(command, capture_output=True, text=True, cwd=REPOSITORY, timeout=60)
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
def test_infrared_and_depth_keep_their_bits(
    tmp_path: Path, name: str, pixels: np.ndarray, encoding: str, dtype: str
):
    cv2.imwrite(str(tmp_path / name), pixels)
    (frame,) = frames(PictureFolder(tmp_path, CameraConfig()))
    assert (frame.encoding, frame.data.dtype) == (encoding, dtype)
    assert frame.data.flat[0] == (7 if dtype == "uint8" else pixels.flat[0])


def test_pixels_that_are_no_picture_are_passed_over(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    cv2.imwrite(str(tmp_path / "a.tiff"), np.full((40, 50), -3, np.int16))
    cv2.imwrite(str(tmp_path / "b.png"), np.zeros((40, 50), np.uint8))
    with caplog.at_level(logging.WARNING):
        assert [f.file for f in frames(PictureFolder(tmp_path, CameraConfig()))] == ["b.png"]
    assert "a.tiff: pixels of int16 are not a picture" in caplog.text


def test_an_empty_folder_is_an_error(tmp_path: Path):
    with pytest.raises(DataError, match="no pictures in it"):
        open_source(CameraConfig(source=str(tmp_path)))


@pytest.fixture
def lying(tmp_path: Path) -> Callable[[int], Path]:
    """A video as a phone writes it: 96x64 pixels, and beside them how to turn them clockwise."""
    ffmpeg = need("ffmpeg", "ffmpeg")
    scene = ["-f", "lavfi", "-i", "testsrc=size=96x64:rate=5:duration=1", "-c:v", "mjpeg"]
    plain = tmp_path / "plain.mov"
    subprocess.run([ffmpeg, "-v", "error", *scene, plain], check=True, timeout=60)

    def turned(degrees: int) -> Path:
        path = tmp_path / f"{degrees}.mov"
        # An option for the input since FFmpeg 6, metadata of the output before.
        new = ["-display_rotation:v:0", str(-degrees), "-i", plain, "-c", "copy", path]
        old = ["-i", plain, "-c", "copy", "-metadata:s:v:0", f"rotate={degrees}", path]
        for way in (new, old):
            done = subprocess.run([ffmpeg, "-v", "error", *way], check=False, timeout=60)
            if done.returncode == 0:
                return path
        raise AssertionError("ffmpeg writes no rotation")

    return turned


def as_ffmpeg_shows_it(path: Path) -> np.ndarray:
    """The first picture, as FFmpeg's own program turns it."""
    to_bmp = ["-frames:v", "1", "-f", "image2pipe", "-c:v", "bmp", "-"]
    command = ["ffmpeg", "-v", "error", "-i", path, *to_bmp]
    done = subprocess.run(command, check=True, capture_output=True, timeout=60)
    picture = cv2.imdecode(np.frombuffer(done.stdout, np.uint8), cv2.IMREAD_COLOR)
    assert picture is not None
    return picture


@pytest.mark.fault("C18")
@pytest.mark.parametrize("degrees", [0, 90, 180, 270])
def test_a_video_of_a_phone_is_upright(lying: Callable[[int], Path], degrees: int):
    path = lying(degrees)
    expected = as_ffmpeg_shows_it(path)
    assert expected.shape[:2] == ((96, 64) if degrees in (90, 270) else (64, 96))
    pictures = [decode(frame, FULL_SIZE) for frame in frames(VideoFile(path, CameraConfig()))]
    assert len(pictures) == 5
    assert pictures[0].shape == expected.shape
    assert np.abs(pictures[0].astype(int) - expected).mean() < 3


@pytest.mark.fault("C18")
def test_rotate_and_flip_come_on_top_for_videos_and_pictures(
    lying: Callable[[int], Path], tmp_path: Path
):
    path = lying(90)
    turned = CameraConfig(source=str(path), rotate=90, flip="vertical")
    first = decode(frames(open_source(turned))[0], FULL_SIZE)
    expected = np.rot90(as_ffmpeg_shows_it(path), -1)[::-1]
    assert np.abs(first.astype(int) - expected).mean() < 3

    picture = np.random.default_rng(0).integers(0, 255, (48, 64, 3), np.uint8)
    cv2.imwrite(str(tmp_path / "p.png"), picture)
    upside_down = CameraConfig(source=str(tmp_path / "p.png"), rotate=180)
    (frame,) = frames(open_source(upside_down))
    assert (decode(frame, FULL_SIZE) == picture[::-1, ::-1]).all()


def test_a_photograph_is_turned_as_its_exif_data_say(tmp_path: Path):
    path = tmp_path / "phone.jpg"
    image = Image.new("RGB", (64, 48), "white")
    exif = image.getexif()
    exif[0x0112] = 6  # the top of the scene is on the right
    image.save(path, exif=exif)
    (frame,) = frames(open_source(CameraConfig(source=str(path))))
    assert decode(frame, FULL_SIZE).shape[:2] == (64, 48)
