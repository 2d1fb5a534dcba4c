"""A look inside ONNX bytes before ONNX Runtime gets them, without importing onnx.

ONNX Runtime happily follows an initialiser's ``external_data`` path out of the bundle; only inline tensors are
accepted here. Walks the protobuf wire format (varint, fixed, length-delimited) of the few messages that matter:
ModelProto.graph = 7, GraphProto.node = 1, .initializer = 5, .sparse_initializer = 15, NodeProto.attribute = 5,
AttributeProto.t = 5, .g = 6, .tensors = 10, .graphs = 11, TensorProto.external_data = 13, .data_location = 14.
"""

from __future__ import annotations

from collections.abc import Iterator

from edge_runtime.errors import BundleError

_MAX_DEPTH = 16
_CHILDREN = {
    "model": {7: "graph"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph"},
}


def refuse_external_data(data: bytes, where: str) -> None:
    """Raise BundleError if any tensor of the model lives outside ``data`` or the bytes are not ONNX."""
    try:
        seen = _walk(memoryview(data), "model", where, 0)
    except (IndexError, ValueError):
        seen = False
    if not seen:
        raise BundleError(
            f"{where}: not an ONNX model (damaged or truncated)", "reinstall the bundle"
        )


def _walk(message: memoryview, kind: str, where: str, depth: int) -> bool:
    """True when the message held at least one known child (an ONNX model always has a graph)."""
    if depth > _MAX_DEPTH:
        raise BundleError(f"{where}: graph nested deeper than {_MAX_DEPTH}", "not a model of ours")
    found = False
    for number, value in _fields(message):
        if kind == "tensor":
            if number == 13 or (number == 14 and value == 1):
                raise BundleError(
                    f"{where}: weights live in another file", "export the model as one file"
                )
        elif number in _CHILDREN[kind] and isinstance(value, memoryview):
            found = True
            _walk(value, _CHILDREN[kind][number], where, depth + 1)
    return found


def _fields(message: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    at = 0
    while at < len(message):
        key, at = _varint(message, at)
        number, wire = key >> 3, key & 7
        if wire == 0:
            value, at = _varint(message, at)
            yield number, value
        elif wire == 2:
            size, at = _varint(message, at)
            if at + size > len(message):
                raise ValueError("truncated")
            yield number, message[at : at + size]
            at += size
        elif wire in (1, 5):
            at += 8 if wire == 1 else 4
        else:
            raise ValueError("unknown wire type")


def _varint(message: memoryview, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = message[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
        if shift > 63:
            raise ValueError("varint too long")
