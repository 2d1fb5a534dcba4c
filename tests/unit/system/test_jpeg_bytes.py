"""A JPEG's bytes tell its size, and whether it is whole, without decoding them."""

from __future__ import annotations

import numpy as np
import pytest

from edge_runtime.commands.builtin_frame import builtin_jpeg
from edge_runtime.errors import DataError
from edge_runtime.system.jpeg_bytes import DHT, is_cut_off, jpeg_size, segments


@pytest.mark.parametrize("zeros", [1, 20, 63, 64, 10_000])
def test_padding_after_the_end_marker_is_normal(zeros: int):
    padded = np.concatenate((builtin_jpeg(), np.zeros(zeros, np.uint8)))
    assert jpeg_size(padded) == (480, 640)


def test_padding_hides_no_half_picture():
    half = builtin_jpeg()[:-5000]
    with pytest.raises(DataError, match="end marker"):
        jpeg_size(np.concatenate((half, np.zeros(10_000, np.uint8))))


def test_segments_end_where_the_picture_data_begins():
    jpeg = builtin_jpeg().tobytes()
    markers = [marker for marker, _ in segments(jpeg)]
    assert DHT in markers
    assert 2 + sum(len(segment) for _, segment in segments(jpeg)) == jpeg.index(b"\xff\xda")


def test_only_the_end_of_the_picture_itself_counts():
    jpeg = builtin_jpeg().tobytes()
    thumbnail = b"\xff\xe1" + (2 + 4).to_bytes(2, "big") + b"\xff\xd8\xff\xd9"
    assert not is_cut_off(jpeg)
    assert not is_cut_off(jpeg + b"a phone's own data")
    assert is_cut_off(jpeg[:2] + thumbnail + jpeg[2:-2])
    assert not is_cut_off(b"no JPEG at all")
