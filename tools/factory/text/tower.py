"""A text tower as ONNX: the sentence encoder with a small vocabulary and int8 weights."""

from __future__ import annotations

import json
import logging
import tempfile
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import onnx
    import torch

MAX_TOKENS = 64
LARGE = 100_000  # numbers of a matrix worth storing as int8


def ascii_vocabulary(tokenizer: dict) -> tuple[dict, list[int]]:
    """(tokenizer without non-ASCII and unused words, old ids of the words kept, in their new
    order)."""
    old: dict[str, int] = tokenizer["model"]["vocab"]
    kept = [
        word
        for word in sorted(old, key=old.__getitem__)
        if word.isascii() and not word.startswith("[unused")
    ]
    new = {word: i for i, word in enumerate(kept)}
    smaller = json.loads(json.dumps(tokenizer))
    smaller["model"]["vocab"] = new
    smaller["truncation"] = smaller["padding"] = None
    for token in smaller["added_tokens"]:
        token["id"] = new[token["content"]]
    for special in smaller["post_processor"]["special_tokens"].values():
        special["ids"] = [new[word] for word in special["tokens"]]
    return smaller, [old[word] for word in kept]


def export_int8(model_dir: Path, words: Sequence[int]) -> bytes:
    """The sentence encoder as int8 ONNX: (input_ids, attention_mask) int64 -> features float32 (N,
    384), unit norm."""
    import torch
    from torch import nn
    from transformers import AutoModel

    class SentenceEncoder(nn.Module):
        """BERT written out, so that the graph holds nothing but what inference needs."""

        def __init__(self) -> None:
            super().__init__()
            bert = AutoModel.from_pretrained(str(model_dir), local_files_only=True).float()
            table = bert.embeddings
            self.words = nn.Embedding.from_pretrained(
                table.word_embeddings.weight.data[list(words)].clone()
            )
            positions = (
                table.position_embeddings.weight[:MAX_TOKENS]
                + table.token_type_embeddings.weight[0]
            )
            self.positions = nn.Parameter(positions.detach().clone())
            self.norm = table.LayerNorm
            self.layers = bert.encoder.layer
            self.heads = bert.config.num_attention_heads

        def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
            kept = attention_mask.to(torch.float32)
            x = self.norm(self.words(input_ids) + self.positions[: input_ids.shape[1]])
            hide = (1 - kept)[:, None, None, :] * -1e4
            for layer in self.layers:
                B, T, C = x.shape
                own = layer.attention.self
                q, k, v = (
                    part(x).reshape(B, T, self.heads, C // self.heads).transpose(1, 2)
                    for part in (own.query, own.key, own.value)
                )
                weights = (q @ k.transpose(2, 3) * (C // self.heads) ** -0.5 + hide).softmax(-1)
                mixed = (weights @ v).transpose(1, 2).reshape(B, T, C)
                x = layer.attention.output.LayerNorm(layer.attention.output.dense(mixed) + x)
                wide = nn.functional.gelu(layer.intermediate.dense(x))
                x = layer.output.LayerNorm(layer.output.dense(wide) + x)
            pooled = (x * kept[..., None]).sum(1)
            return pooled / pooled.norm(dim=1, keepdim=True)

    return int8_weights(export_text_tower(SentenceEncoder().eval(), "features", MAX_TOKENS))


def export_text_tower(tower: torch.nn.Module, output: str, max_tokens: int | None = None) -> bytes:
    """A module of (input_ids, attention_mask), both int64 (batch, tokens), as float32 ONNX of any
    batch and length."""
    import torch

    shape = {0: torch.export.Dim("batch"), 1: torch.export.Dim("tokens", max=max_tokens)}
    # Two tensors: given one object for both inputs, the exporter would merge them.
    tokens = torch.ones((2, 7), dtype=torch.int64)
    mask = torch.ones((2, 7), dtype=torch.int64)
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        exact = Path(folder) / "float32.onnx"
        torch.onnx.export(
            tower,
            (tokens, mask),
            str(exact),
            input_names=["input_ids", "attention_mask"],
            output_names=[output],
            dynamic_shapes={"input_ids": shape, "attention_mask": shape},
            opset_version=18,
            dynamo=True,
            external_data=False,
            verbose=False,
        )
        return exact.read_bytes()


def int8_weights(model_bytes: bytes) -> bytes:
    """Every large matrix as int8 with a scale a column; arithmetic stays float32.

    The table of words has a scale a row. Dynamic int8 arithmetic was tried: its activations are
    scaled by the whole batch, so that a phrase's embedding depends on its neighbours, and 20 of 100
    held-out names are lost.
    """
    import onnx
    from onnx import numpy_helper

    model = onnx.load_from_string(model_bytes)
    graph = model.graph
    large = [tensor for tensor in graph.initializer if np.prod(tensor.dims) > LARGE]
    matrices = {tensor.name: numpy_helper.to_array(tensor) for tensor in large}
    nodes = []
    for node in graph.node:
        name = next((name for name in node.input if name in matrices), None)
        if name is None:
            nodes.append(node)
        else:
            nodes += _with_int8(graph, node, name, matrices[name])

    kept = [tensor for tensor in graph.initializer if tensor.name not in matrices]
    del graph.node[:], graph.initializer[:], graph.value_info[:]
    graph.node.extend(nodes)
    graph.initializer.extend(kept)
    onnx.checker.check_model(model)
    return model.SerializeToString()


def _with_int8(
    graph: onnx.GraphProto, node: onnx.NodeProto, name: str, matrix: np.ndarray
) -> list[onnx.NodeProto]:
    """The nodes that do what `node` did, with its matrix as int8 levels and scales."""
    from onnx import TensorProto, helper, numpy_helper

    # A table of words has a scale a row, and only the rows in use become float32.
    is_table = node.op_type == "Gather"
    scale = np.abs(matrix).max(axis=1 if is_table else 0, keepdims=True) / 127
    levels = np.rint(matrix / scale).astype(np.int8)
    parts = {f"{name}.int8": levels, f"{name}.scale": scale}
    graph.initializer.extend(numpy_helper.from_array(array, part) for part, array in parts.items())

    def restored(suffix: str, result: str) -> list[onnx.NodeProto]:
        int8 = f"{name}.int8{suffix}"
        cast = helper.make_node("Cast", [int8], [f"{int8}.float"], to=TensorProto.FLOAT)
        product = [f"{int8}.float", f"{name}.scale{suffix}"]
        return [cast, helper.make_node("Mul", product, [result])]

    if is_table:
        rows = node.input[1]
        gathers = [helper.make_node("Gather", [part, rows], [f"{part}.rows"]) for part in parts]
        return [*gathers, *restored(".rows", node.output[0])]

    whole = f"{name}.float"
    node.input[list(node.input).index(name)] = whole
    return [*restored("", whole), node]
