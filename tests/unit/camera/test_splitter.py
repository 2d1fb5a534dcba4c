"""Every whole picture of a stream comes out, whatever stands around it and however it is cut."""

from __future__ import annotations

import numpy as np
import pytest

from edge_runtime.camera import splitter
from edge_runtime.camera.splitter import JpegSplitter, RawSplitter
from edge_runtime.commands.builtin_frame import builtin_jpeg
from edge_runtime.errors import DataError
from tests.doubles.mjpeg_camera import jpegs

PICTURES = jpegs()[:3]


def fed(parts: list[bytes], splitter: JpegSplitter | None = None) -> list[bytes]:
    """The pictures in ``parts``, which come one after the other."""
    splitter = splitter or JpegSplitter()
    return [picture.tobytes() for part in parts for picture in splitter.feed(part)]


@pytest.mark.parametrize("block", [1, 7, 4096, 1 << 20])
def test_pictures_come_out_whole_however_the_stream_is_cut(block: int):
    stream = b"".join(PICTURES)
    parts = [stream[at : at + block] for at in range(0, len(stream), block)]
    assert fed(parts) == PICTURES


def test_what_stands_between_pictures_is_passed_over():
    first, second, third = PICTURES
    stream = b"--frame\r\n" + first + b"\0" * 5000 + second + b"\xff\xd8 \xff\xff" + third + b"\xff"
    assert fed([stream]) == PICTURES


def with_thumbnail(jpeg: bytes) -> bytes:
    """``jpeg`` with another one in its EXIF segment."""
    inner = PICTURES[1]
    assert len(inner) < 65000
    return jpeg[:2] + b"\xff\xe1" + (2 + len(inner)).to_bytes(2, "big") + inner + jpeg[2:]


def test_a_thumbnail_is_part_of_its_picture():
    picture = with_thumbnail(PICTURES[0])
    assert fed([picture[:100], picture[100:], PICTURES[2]]) == [picture, PICTURES[2]]


@pytest.mark.fault("C20")
def test_a_picture_that_was_cut_off_is_left_out_and_the_next_is_whole():
    """In its data, in its headers, and in the middle of a marker."""
    first, second, third = PICTURES
    for cut in (len(first) - 20, 30, 3):
        assert fed([first[:cut], second, third]) == [second, third]


def test_bytes_that_look_like_starts_hide_no_picture():
    fakes = (
        b"\xff\xd8\xff" + b"\xff\xd8\xff\xd9" + b"\xff\xd8\xff\x00" + b"\xff\xd8\xff\xda\x00\x02"
    )
    assert fed([fakes * 3000, PICTURES[0]])[-1] == PICTURES[0]


@pytest.mark.fault("C20")
@pytest.mark.parametrize(
    "garbage",
    [
        b"\0" * 65536,
        b"\xff" * 65536,
        b"\xff\xd8\xff\xe0" * 16384,
        b"\xff\xd8\xff\xda\0\2" + b"a" * 999,
    ],
)
def test_a_stream_without_a_picture_is_given_up_and_never_kept(
    garbage: bytes, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(splitter, "LIMIT", 1 << 20)
    jpeg_splitter = JpegSplitter()
    for _ in range((1 << 20) // len(garbage)):
        assert not jpeg_splitter.feed(garbage)
        assert len(jpeg_splitter._buffer) <= 1 << 20
    with pytest.raises(DataError, match="no picture in 1 MB"):
        jpeg_splitter.feed(garbage)


def test_pictures_forgive_what_stood_before_them(monkeypatch: pytest.MonkeyPatch):
    """Only bytes since the last picture count, so a stream with pictures never ends."""
    monkeypatch.setattr(splitter, "LIMIT", 1 << 16)
    picture = PICTURES[0]
    assert len(fed([b"\0" * 20_000 + picture] * 20)) == 20


def test_a_picture_larger_than_a_block_takes_time_in_proportion():
    """A search never starts anew at the picture's first byte."""
    jpeg = builtin_jpeg(4000, 3000).tobytes()
    parts = [jpeg[at : at + 100] for at in range(0, len(jpeg), 100)]
    assert fed(parts) == [jpeg]


def test_raw_pictures_are_cut_by_their_size():
    pictures = np.random.default_rng(0).integers(0, 65535, (3, 4, 6), np.uint16)
    stream = pictures.tobytes() + b"half"
    raw = RawSplitter("y16", (4, 6), np.uint16)
    seen = [
        picture for at in range(0, len(stream), 10) for picture in raw.feed(stream[at : at + 10])
    ]
    assert (np.stack(seen) == pictures).all()
    assert seen[0].dtype == np.uint16
    assert raw.unused == 4
