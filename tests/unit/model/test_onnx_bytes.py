"""Bytes that ONNX Runtime would follow out of the bundle, or that are no model, are refused."""

from __future__ import annotations

import pytest

from edge_runtime.errors import BundleError
from edge_runtime.model.onnx_bytes import refuse_external_data
from tests.tiny import encoder_onnx


def test_a_model_in_one_piece_passes():
    refuse_external_data(encoder_onnx(), "x")


@pytest.mark.fault("M1")
@pytest.mark.parametrize("data", [b"", b"\x80" * 20, b"\x3a\xff\xff\xff\xff\x0f", b"\x0f"])
def test_bytes_that_are_not_protobuf_are_refused(data: bytes):
    with pytest.raises(BundleError, match="x: not an ONNX model"):
        refuse_external_data(data, "x")


@pytest.mark.fault("M8")
@pytest.mark.parametrize("location", ["../secrets", "/etc/passwd", "encoder.data"])
def test_weights_in_another_file_are_refused(location: str):
    with pytest.raises(BundleError, match="x: weights live in another file"):
        refuse_external_data(encoder_onnx(external=location), "x")


def nested(levels: int) -> bytes:
    """Graph in attribute in node in graph, ``levels`` times."""
    data = b""
    for _ in range(levels):
        for tag in (b"\x32", b"\x2a", b"\x0a"):  # attribute.g, node.attribute, graph.node
            data = tag + varint(len(data)) + data
    return b"\x3a" + varint(len(data)) + data  # model.graph


def varint(number: int) -> bytes:
    data = b""
    while number >= 0x80:
        data += bytes([number & 0x7F | 0x80])
        number >>= 7
    return data + bytes([number])


def test_graphs_nested_without_end_are_refused():
    refuse_external_data(nested(5), "x")
    with pytest.raises(BundleError, match="nested deeper than 16"):
        refuse_external_data(nested(6), "x")
