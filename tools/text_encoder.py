"""Make models/text-encoder: any English phrase -> CLIP's text space, on the device, offline, in under 25 MB.

    python -m tools.text_encoder                       make it, measure it on held-out names, write its model card
    python -m tools.text_encoder --scenes FOLDER       also judge it by pictures: one folder a scene, through the
                                                       image encoder of a bundle

all-MiniLM-L6-v2 is exported as ONNX without the words it will not meet (its vocabulary is cut to ASCII), its
matrices are quantised to int8, and the map to CLIP's text space is fitted on the features of that int8 network.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import logging
import tempfile
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from edge_runtime.errors import EdgeLabelError
from edge_runtime.files import write_atomically
from edge_runtime.model.text_encoder import SCHEMA, onnx_tower
from tools.factory.sentence_map import (
    DEFAULT_WEIGHTS,
    TextRows,
    as_prompt,
    fit,
    load_text_rows,
    minilm_directory,
    plain_quality,
    quality,
    unique_rows,
    without,
)

if TYPE_CHECKING:
    import torch

OUT = Path("models/text-encoder")
MAX_TOKENS = 64
VERSION = "1.0.0"
TEXT_SPACE = "openai/clip-vit-base-patch32"


def ascii_vocabulary(tokenizer: dict) -> tuple[dict, list[int]]:
    """(tokenizer without non-ASCII and unused words, old ids of the words kept, in their new order)."""
    old: dict[str, int] = tokenizer["model"]["vocab"]
    kept = [word for word in sorted(old, key=old.__getitem__) if word.isascii() and not word.startswith("[unused")]
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
    """The sentence encoder as int8 ONNX: (input_ids, attention_mask) int64 -> features float32 (N, 384), unit norm."""
    import torch
    from torch import nn
    from transformers import AutoModel

    class SentenceEncoder(nn.Module):
        """BERT written out, so that the graph holds nothing but what inference needs."""

        def __init__(self) -> None:
            super().__init__()
            bert = AutoModel.from_pretrained(str(model_dir), local_files_only=True).float()
            table = bert.embeddings
            self.words = nn.Embedding.from_pretrained(table.word_embeddings.weight.data[list(words)].clone())
            positions = table.position_embeddings.weight[:MAX_TOKENS] + table.token_type_embeddings.weight[0]
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
    """A module of (input_ids, attention_mask), both int64 (batch, tokens), as float32 ONNX of any batch and length."""
    import torch

    shape = {0: torch.export.Dim("batch"), 1: torch.export.Dim("tokens", max=max_tokens)}
    # Two tensors: given one object for both inputs, the exporter would merge them.
    tokens, mask = torch.ones((2, 7), dtype=torch.int64), torch.ones((2, 7), dtype=torch.int64)
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
    """Every large matrix as int8 with a scale a column (a row in the table of words); arithmetic stays float32.

    Dynamic int8 arithmetic was tried: its activations are scaled by the whole batch, so that a phrase's embedding
    depends on its neighbours, and 20 of 100 held-out names are lost.
    """
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    model = onnx.load_from_string(model_bytes)
    graph = model.graph
    nodes = []
    matrices = {i.name: numpy_helper.to_array(i) for i in graph.initializer if np.prod(i.dims) > 100_000}
    for node in graph.node:
        name = next((name for name in node.input if name in matrices), None)
        if name is None:
            nodes.append(node)
            continue
        rows = node.op_type == "Gather"  # a table of words: a scale a row, and only the rows in use become float32
        scale = np.abs(matrices[name]).max(axis=1 if rows else 0, keepdims=True) / 127
        levels = np.rint(matrices[name] / scale).astype(np.int8)
        parts = (f"{name}.int8", levels), (f"{name}.scale", scale)
        graph.initializer.extend(numpy_helper.from_array(array, part) for part, array in parts)
        int8, factor, whole = f"{name}.int8", f"{name}.scale", f"{name}.float"
        if rows:
            int8, factor, whole = f"{int8}.rows", f"{factor}.rows", node.output[0]
            nodes += [helper.make_node("Gather", [part, node.input[1]], [f"{part}.rows"]) for part, _ in parts]
        nodes.append(helper.make_node("Cast", [int8], [f"{int8}.float"], to=TensorProto.FLOAT))
        nodes.append(helper.make_node("Mul", [f"{int8}.float", factor], [whole]))
        if not rows:
            node.input[list(node.input).index(name)] = whole
            nodes.append(node)
    kept = [i for i in graph.initializer if i.name not in matrices]
    del graph.node[:], graph.initializer[:], graph.value_info[:]
    graph.node.extend(nodes)
    graph.initializer.extend(kept)
    onnx.checker.check_model(model)
    return model.SerializeToString()


def make(weights: Path) -> tuple[dict[str, bytes], dict[str, float]]:
    """(files of the encoder, its figures on the held-out names). The map that ships is fitted on all names."""
    model_dir = minilm_directory()
    tokenizer, words = ascii_vocabulary(json.loads((model_dir / "tokenizer.json").read_text("utf-8")))
    files = {
        "encoder.onnx": export_int8(model_dir, words),
        "tokenizer.json": json.dumps(tokenizer, ensure_ascii=False).encode(),
    }
    features = onnx_tower(files["encoder.onnx"], files["tokenizer.json"], "encoder.onnx", MAX_TOKENS)
    rows = load_text_rows(weights)
    figures = quality(rows, features)
    figures |= {f"plain_{name}": value for name, value in plain_quality(rows, features).items()}
    files["phrase_map.npz"] = fit(rows, features).to_npz()
    return files, figures


def manifest(files: dict[str, bytes], figures: dict[str, float]) -> dict:
    """manifest.json of the text encoder."""
    return {
        "schema": SCHEMA,
        "name": "minilm-clip-vit-b32",
        "version": VERSION,
        "files": {n: {"sha256": hashlib.sha256(d).hexdigest(), "size": len(d)} for n, d in files.items()},
        "text_space": TEXT_SPACE,
        "spelling": "a {}",
        "max_tokens": MAX_TOKENS,
        "approximate": True,
        "held_out_names": {name: round(value, 4) for name, value in figures.items()},
        "licences": [
            "sentence encoder: all-MiniLM-L6-v2, Apache-2.0",
            "text embeddings the map was fitted on: OpenAI CLIP, MIT; facebookresearch/Detic, Apache-2.0",
        ],
    }


CARD = """\
# Text encoder {version}

Any English phrase -> an approximation of its OpenAI CLIP ViT-B/32 text embedding, on the device and offline.
`edge-label labels build` runs it in a process of its own; the daemon never loads it.

- **Sentence encoder:** all-MiniLM-L6-v2 (Apache-2.0), vocabulary cut to ASCII, int8 weights, {onnx:.1f} MB of ONNX.
- **Map:** kernel ridge regression on its features and on letter n-grams, fitted on {support} genuine CLIP text
  embeddings (CLIP: MIT; names and rows from facebookresearch/Detic, Apache-2.0, and others).
- **Size:** {total:.1f} MB in all.

## How good it is

`python -m tools.text_encoder` prints these figures. 400 names of the bank, a fixed draw, were held out in every
spelling; the shipped map is then fitted on all names.

| measure | value | plain kernel ridge on the sentence features |
| --- | --- | --- |
| the right name is first of 400 | {first:.1%} | {plain_first:.1%} |
| the right name is among the first five | {first_five:.1%} | {plain_first_five:.1%} |
| mean cosine to the genuine embedding | {cosine:.3f} | {plain_cosine:.3f} |
{scenes}
A row made by a genuine CLIP text tower has cosine 1. Where the bank holds a phrase exactly, the bank's row is used,
never this estimate; `edge-label labels check` says which is which.

## What it is not for

It reads English. Words of other scripts become one unknown token. It knows objects best, because the names it was
fitted on are objects; long sentences, negations ("no cars") and counts are guesses. For exact embeddings give
`edge-label labels build --text-encoder` a real CLIP text tower.
"""


def card(files: dict[str, bytes], figures: dict[str, float], scenes: str) -> str:
    """MODEL_CARD.md."""
    return CARD.format(
        version=VERSION,
        onnx=len(files["encoder.onnx"]) / 1e6,
        total=sum(map(len, files.values())) / 1e6,
        support=int(figures["support"]),
        scenes=scenes,
        **{name: value for name, value in figures.items() if name.endswith(("first", "first_five", "cosine"))},
    )


def scene_figures(folder: Path, bundle_path: Path, rows: TextRows, features) -> str:  # noqa: ANN001
    """Pictures of scenes, labelled by a bundle's image encoder with genuine and with estimated text rows.

    Only scenes whose name the bank holds exactly can be compared; their rows are estimated by a map that was fitted
    without them. Returns a line for the model card.
    """
    from edge_runtime.model.bundle import load_bundle
    from edge_runtime.model.encoder import Encoder
    from edge_runtime.model.preprocess import Preprocessor
    from edge_runtime.opencv import cv2
    from tools.factory.sentence_map import SentenceMap

    truth = unique_rows(rows)
    known = [d for d in sorted(folder.iterdir()) if d.is_dir() and as_prompt(d.name)[2:] in truth]
    if len(known) < 2:
        raise SystemExit(f"tools.text_encoder: {folder}: fewer than two folders carry a name that the bank holds")
    names = [as_prompt(d.name)[2:] for d in known]
    bundle = load_bundle(bundle_path)
    preprocess, encode = Preprocessor(bundle.manifest.input), Encoder(bundle)
    embeddings, classes = [], []
    for i, scene in enumerate(known):
        for file in sorted(scene.iterdir()):
            picture = cv2.imread(str(file))
            if picture is not None:
                embeddings.append(encode(preprocess(picture)))
                classes.append(i)
    images, labels = np.stack(embeddings), np.array(classes)
    estimated = SentenceMap(without(rows, names), features)(names)
    exact = np.stack([truth[name] for name in names])
    right = [float(((images @ text.T).argmax(1) == labels).mean()) for text in (exact, estimated)]
    return (
        f"| {len(labels)} pictures of {len(names)} scenes, top-1 through {bundle.manifest.id} | {right[1]:.1%} "
        f"| with genuine rows {right[0]:.1%}, by chance {1 / len(names):.1%} |\n"
    )


def main() -> int:
    """Command line; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.text_encoder", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=OUT, metavar="DIR", help=f"default {OUT}")
    parser.add_argument("--weights", type=Path, default=DEFAULT_WEIGHTS, help="folder of the shared CLIP text rows")
    parser.add_argument("--scenes", type=Path, metavar="FOLDER", help="pictures, one folder a scene")
    parser.add_argument("--bundle", type=Path, default=Path("models/edge-clip"), help="whose image encoder judges")
    options = parser.parse_args()
    try:
        files, figures = make(options.weights)
        rows = load_text_rows(options.weights)
        figures["support"] = len(unique_rows(rows))
        scenes = ""
        if options.scenes:
            features = onnx_tower(files["encoder.onnx"], files["tokenizer.json"], "encoder.onnx", MAX_TOKENS)
            scenes = scene_figures(options.scenes, options.bundle, rows, features)
        for name, data in files.items():
            write_atomically(options.out / name, data)
        meta = json.dumps(manifest(files, figures), indent=1, ensure_ascii=False) + "\n"
        write_atomically(options.out / "manifest.json", meta.encode())
        write_atomically(options.out / "MODEL_CARD.md", card(files, figures, scenes).encode())
    except EdgeLabelError as error:
        parser.exit(error.exit_code, f"tools.text_encoder: {error}\n")
    total = sum(map(len, files.values())) / 1e6
    print(
        f"{options.out}: {total:.1f} MB; {figures['names']:.0f} held-out names: right name first "
        f"{figures['first']:.1%}, in the first five {figures['first_five']:.1%}, cosine {figures['cosine']:.3f}"
    )
    print(scenes, end="")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
