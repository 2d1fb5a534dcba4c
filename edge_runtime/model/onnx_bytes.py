"""A look inside ONNX bytes before ONNX Runtime gets them, without the onnx library.

ONNX Runtime follows an initialiser's ``external_data`` path out of the bundle, so only tensors
inside the bytes are accepted here. The protobuf wire format (varint, fixed, length-delimited) is
walked through the messages that can hold a tensor. Their fields, from onnx.proto:

    ModelProto     graph = 7
    GraphProto     node = 1, initializer = 5, sparse_initializer = 15
    NodeProto      attribute = 5
    AttributeProto t = 5, g = 6, tensors = 10, graphs = 11
    TensorProto    external_data = 13, data_location = 14
"""

from __future__ import annotations

from collections.abc import Iterator

from edge_runtime.errors import BundleError

MAX_DEPTH = 16  # messages in messages; without a limit, a small file could exhaust the stack

_CHILDREN = {
    "model": {7: "graph"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph"},
}


def refuse_external_data(data: bytes, where: str) -> None:
    """Raise BundleError if any tensor lies outside ``data``, or the bytes are not ONNX."""
    cause = None
    try:
        has_graph = _walk(memoryview(data), "model", where, 0)
    except (IndexError, ValueError) as error:
        has_graph = False
        cause = error

    if not has_graph:
        raise BundleError(
            f"{where}: not an ONNX model (damaged or truncated)", "reinstall the bundle"
        ) from cause


def _walk(message: memoryview, kind: str, where: str, depth: int) -> bool:
    """True when the message has at least one known child: an ONNX model always has a graph."""
    if depth > MAX_DEPTH:
        raise BundleError(f"{where}: graph nested deeper than {MAX_DEPTH}", "not a model of ours")

    has_child = False
    for number, value in _fields(message):
        if kind == "tensor":
            if number == 13 or (number == 14 and value == 1):
                raise BundleError(
                    f"{where}: weights live in another file", "export the model as one file"
                )
        elif number in _CHILDREN[kind] and isinstance(value, memoryview):
            has_child = True
            _walk(value, _CHILDREN[kind][number], where, depth + 1)
    return has_child


def _fields(message: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """Number and value of each field. Raises IndexError or ValueError where it is no protobuf."""
    at = 0
    while at < len(message):
        key, at = _varint(message, at)
        number = key >> 3
        wire_type = key & 7

        if wire_type == 0:  # varint
            value, at = _varint(message, at)
            yield number, value
        elif wire_type == 2:  # length-delimited: a string, bytes or a message
            size, at = _varint(message, at)
            if at + size > len(message):
                raise ValueError("truncated")
            yield number, message[at : at + size]
            at += size
        elif wire_type == 1:  # 64 bits
            at += 8
        elif wire_type == 5:  # 32 bits
            at += 4
        else:
            raise ValueError("unknown wire type")


def _varint(message: memoryview, at: int) -> tuple[int, int]:
    """The integer at ``at``, seven bits a byte, lowest first; and the place after it."""
    value = 0
    shift = 0
    while True:
        byte = message[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at

        shift += 7
        if shift > 63:
            raise ValueError("varint too long")
