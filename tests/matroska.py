"""A Matroska file as browsers record it: each frame has its time, and there is no rate."""

from __future__ import annotations

from collections.abc import Iterable


def matroska(frames: Iterable[tuple[int, bytes]], size: tuple[int, int]) -> bytes:
    """A file without a length or an index.

    ``frames`` are (milliseconds, JPEG), ``size`` is (width, height).
    """
    width, height = size

    head = _element("1A45DFA3", _text("4282", "matroska") + _number("4287", 4) + _number("4285", 2))
    information = _element(
        "1549A966", _number("2AD7B1", 1_000_000) + _text("4D80", "t") + _text("5741", "t")
    )
    video = _element("E0", _number("B0", width) + _number("BA", height))
    track = (
        _number("D7", 1) + _number("73C5", 1) + _number("83", 1) + _text("86", "V_MJPEG") + video
    )

    body = information + _element("1654AE6B", _element("AE", track))
    for milliseconds, jpeg in frames:
        block = _element("A3", b"\x81\0\0\x80" + jpeg)
        body += _element("1F43B675", _number("E7", milliseconds) + block)
    return head + _element("18538067", body)


def _element(identity: str, data: bytes) -> bytes:
    """An EBML element. The bit at 2^56 says that the length has eight bytes."""
    return bytes.fromhex(identity) + (len(data) | 1 << 56).to_bytes(8, "big") + data


def _number(identity: str, value: int) -> bytes:
    return _element(identity, value.to_bytes(8, "big"))


def _text(identity: str, value: str) -> bytes:
    return _element(identity, value.encode())
