"""A bundle that is small enough to make in every test: a real one with a 16-dimensional text space.

The encoder projects the mean colour of the picture, so red, green and blue pictures get the labels
of these names.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

SPACE = "test/tiny"
DIM = 16
COLOURS = ("red", "green", "blue")
PHRASES = (*COLOURS, "grey", "a photo of nothing", "dark red")
LABELS_YAML = """\
labels:
  - name: red
    group: colour
  - name: green
    group: colour
  - name: blue
    group: colour
background: ["a photo of nothing"]
"""


def text_rows() -> np.ndarray:
    """float32 (phrases, DIM): one axis for each colour, and one for grey and nothing."""
    axes = {
        "red": {0: 1},
        "green": {1: 1},
        "blue": {2: 1},
        "grey": {3: 1},
        "a photo of nothing": {3: 1},
        "dark red": {0: 0.8, 3: 0.6},
    }
    rows = np.zeros((len(PHRASES), DIM), np.float32)
    for i, phrase in enumerate(PHRASES):
        for axis, value in axes[phrase].items():
            rows[i, axis] = value
    return rows


def encoder_onnx(
    space: str = SPACE,
    shape: tuple[int, ...] = (1, 32, 32, 3),
    dim: int = DIM,
    external: str | None = None,
) -> bytes:
    """uint8 NHWC -> mean colour -> ``dim`` numbers, unit norm.

    The numbers are the colour minus the mean of its channels, and a constant on the axis of grey.
    """
    mix = np.full((3, dim), 0.0, np.float32)
    mix[:3, :3] = np.eye(3) - 1 / 3
    bias = np.zeros(dim, np.float32)
    bias[3] = 20.0
    weights = [
        numpy_helper.from_array(mix, "mix"),
        numpy_helper.from_array(bias, "bias"),
        numpy_helper.from_array(np.array([1, 2], np.int64), "axes"),
    ]
    if external:
        tensor = weights[0]
        tensor.ClearField("raw_data")
        tensor.data_location = TensorProto.EXTERNAL
        entry = tensor.external_data.add()
        entry.key = "location"
        entry.value = external

    graph = helper.make_graph(
        [
            helper.make_node("Cast", ["pixels"], ["float"], to=TensorProto.FLOAT),
            helper.make_node("ReduceMean", ["float", "axes"], ["mean"], keepdims=0),
            helper.make_node("MatMul", ["mean", "mix"], ["mixed"]),
            helper.make_node("Add", ["mixed", "bias"], ["shifted"]),
            helper.make_node("LpNormalization", ["shifted"], ["embedding"], axis=1, p=2),
        ],
        "tiny",
        [helper.make_tensor_value_info("pixels", TensorProto.UINT8, shape)],
        [helper.make_tensor_value_info("embedding", TensorProto.FLOAT, (1, dim))],
        weights,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    if not external:
        onnx.checker.check_model(model)
    helper.set_model_props(model, {"edge_label.text_space": space})
    return model.SerializeToString()


def npy_bytes(rows: np.ndarray) -> bytes:
    """``.npy`` bytes of an array."""
    import io

    buffer = io.BytesIO()
    np.save(buffer, rows, allow_pickle=True)
    return buffer.getvalue()


def write_tiny_bundle(folder: Path, manifest: dict[str, Any] | None = None, **files: bytes) -> Path:
    """Write a bundle.

    ``files`` replace its parts; a dot is __dot__ and a slash is __ there. ``manifest`` replaces
    keys of its manifest.
    """
    contents = {
        "encoder.onnx": encoder_onnx(),
        "text_bank.npy": npy_bytes(text_rows().astype(np.float16)),
        "text_bank.json": json.dumps(
            {
                "schema": "edge-label-bank/1",
                "text_space": SPACE,
                "names": list(PHRASES),
                "approximate": [5],
                "sources": {"exact": "made up", "approximate": "made up"},
            }
        ).encode(),
        "labels/colours.yaml": LABELS_YAML.encode(),
    }
    for name, data in files.items():
        contents[name.replace("__dot__", ".").replace("__", "/")] = data

    for name, data in contents.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)

    (folder / "manifest.json").write_text(json.dumps({**_manifest(contents), **(manifest or {})}))
    return folder


def tiny_input(*modalities: str) -> dict[str, Any]:
    """The input of the tiny encoder in a manifest, for a bundle trained for these modalities."""
    return {
        "name": "pixels",
        "layout": "NHWC",
        "dtype": "uint8",
        "size": [32, 32],
        "mean": [0, 0, 0],
        "std": [1, 1, 1],
        "resize": "squash",
        "modalities": [*modalities],
    }


def _manifest(contents: dict[str, bytes]) -> dict[str, Any]:
    return {
        "schema": "edge-label-bundle/1",
        "name": "tiny",
        "version": "1.0.0",
        "files": {
            n: {"sha256": hashlib.sha256(d).hexdigest(), "size": len(d)}
            for n, d in contents.items()
        },
        "input": tiny_input("rgb"),
        "embedding": {"name": "embedding", "dim": DIM},
        "logit_scale": 20.0,
        "text_space": SPACE,
        "templates": ["a photo of a {}"],
        "minimum_runtime": "0.1.0",
    }
