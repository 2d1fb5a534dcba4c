"""A text encoder that every test can make: words are rows of a table, a phrase is their mean."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from tests.tiny import DIM

# The axes of tests/tiny.py: red, green, blue, grey. `crimson` leans to red, `forest` to green.
WORDS = {
    "red": 0,
    "green": 1,
    "blue": 2,
    "grey": 3,
    "crimson": (0, 4),
    "forest": (1, 5),
    "night": 6,
    "sea": (2, 7),
}


def encoder_onnx(rows: np.ndarray | None = None) -> bytes:
    """input_ids, attention_mask -> the mean of the words' rows, unit norm."""
    if rows is None:
        rows = np.zeros((len(WORDS) + 2, DIM), np.float32)
        rows[1, 8] = 1  # unknown words
        for i, axes in enumerate(WORDS.values(), start=2):
            rows[i, np.atleast_1d(axes)] = 1
    ids = helper.make_tensor_value_info("input_ids", TensorProto.INT64, ("batch", "tokens"))
    mask = helper.make_tensor_value_info("attention_mask", TensorProto.INT64, ("batch", "tokens"))
    graph = helper.make_graph(
        [
            helper.make_node("Gather", ["table", "input_ids"], ["rows"]),
            helper.make_node("Cast", ["attention_mask"], ["weights"], to=TensorProto.FLOAT),
            helper.make_node("Unsqueeze", ["weights", "last"], ["column"]),
            helper.make_node("Mul", ["rows", "column"], ["masked"]),
            helper.make_node("ReduceSum", ["masked", "middle"], ["sum"], keepdims=0),
            helper.make_node("LpNormalization", ["sum"], ["embedding"], axis=1, p=2),
        ],
        "tiny-text",
        [ids, mask],
        [helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ("batch", rows.shape[1]))],
        [
            numpy_helper.from_array(rows, "table"),
            numpy_helper.from_array(np.array([2]), "last"),
            numpy_helper.from_array(np.array([1]), "middle"),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.checker.check_model(model)
    return model.SerializeToString()


def tokenizer_json() -> bytes:
    """Splits at spaces; a word outside WORDS is [UNK]."""
    from tokenizers import Tokenizer, models, pre_tokenizers

    vocabulary = {"[PAD]": 0, "[UNK]": 1, **{word: i for i, word in enumerate(WORDS, start=2)}}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    return tokenizer.to_str().encode()


def write_tiny_text_encoder(
    folder: Path, *, approximate: bool = True, rows: np.ndarray | None = None
) -> Path:
    """A folder like models/text-encoder."""
    folder.mkdir(parents=True, exist_ok=True)
    contents = {"encoder.onnx": encoder_onnx(rows), "tokenizer.json": tokenizer_json()}
    for name, data in contents.items():
        (folder / name).write_bytes(data)
    manifest = {
        "schema": "edge-label-text-encoder/1",
        "name": "tiny-text",
        "version": "1.0.0",
        "files": {
            n: {"sha256": hashlib.sha256(d).hexdigest(), "size": len(d)}
            for n, d in contents.items()
        },
        "text_space": "test/tiny",
        "spelling": "{}",
        "max_tokens": 16,
        "approximate": approximate,
    }
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return folder
