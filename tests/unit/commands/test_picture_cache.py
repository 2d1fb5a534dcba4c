"""A picture that was encoded once is not encoded again, and a cache never harms."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from edge_runtime.commands import picture_cache
from edge_runtime.commands.picture_cache import PictureCache

ENCODER = "e" * 64
ONE, OTHER = "01" * 32, "02" * 32
ROW = np.arange(4, dtype=np.float32)


def filled(folder: Path) -> Path:
    cache = PictureCache(folder, ENCODER, 4)
    cache.put(ONE, ROW)
    cache.put(OTHER, ROW + 1)
    cache.close()
    return cache.path


def test_an_embedding_comes_back_to_the_bit(tmp_path: Path):
    filled(tmp_path)
    cache = PictureCache(tmp_path, ENCODER, 4)
    np.testing.assert_array_equal(cache.get(ONE), ROW)
    np.testing.assert_array_equal(cache.get(OTHER), ROW + 1)
    assert cache.get("03" * 32) is None


def test_another_encoder_has_another_cache(tmp_path: Path):
    filled(tmp_path)
    assert PictureCache(tmp_path, "f" * 64, 4).get(ONE) is None


@pytest.mark.fault("L7")
def test_a_record_that_is_cut_off_is_dropped_and_the_next_stands_in_its_place(tmp_path: Path):
    path = filled(tmp_path)
    os.truncate(path, path.stat().st_size - 3)
    cache = PictureCache(tmp_path, ENCODER, 4)
    assert cache.get(OTHER) is None
    cache.put(OTHER, ROW + 2)
    cache.close()
    np.testing.assert_array_equal(PictureCache(tmp_path, ENCODER, 4).get(OTHER), ROW + 2)


@pytest.mark.fault("L7")
def test_a_changed_byte_is_never_an_embedding(tmp_path: Path):
    path = filled(tmp_path)
    data = bytearray(path.read_bytes())
    data[40] ^= 1
    path.write_bytes(data)
    cache = PictureCache(tmp_path, ENCODER, 4)
    assert cache.get(ONE) is None
    assert cache.get(OTHER) is not None


def test_a_cache_that_is_too_large_is_begun_anew(tmp_path: Path, monkeypatch):
    path = filled(tmp_path)
    monkeypatch.setattr(picture_cache, "MAX_BYTES", 10)
    assert PictureCache(tmp_path, ENCODER, 4).get(ONE) is None
    assert path.stat().st_size == 0


def test_a_link_in_the_place_of_the_cache_is_not_followed(tmp_path: Path, caplog):
    target = tmp_path / "mine"
    target.write_text("my own")
    path = filled(tmp_path / "cache")
    path.unlink()
    path.symlink_to(target)
    cache = PictureCache(tmp_path / "cache", ENCODER, 4)
    cache.put(ONE, ROW)
    assert target.read_text() == "my own"
    assert len(caplog.records) == 1


def test_a_user_without_a_home_has_no_cache():
    cache = PictureCache(None, ENCODER, 4)
    cache.put(ONE, ROW)
    assert cache.get(ONE) is None
    cache.close()
