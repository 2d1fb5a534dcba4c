"""The text encoder that ships: its files, its manifest, its model card, and how good it is."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edge_runtime.errors import DataError
from edge_runtime.model.bundle import load_bundle
from edge_runtime.model.encoder import Encoder
from edge_runtime.model.preprocess import Preprocessor
from edge_runtime.model.text.child import SCHEMA
from edge_runtime.model.text.towers import onnx_tower
from edge_runtime.system.opencv import cv2
from tools.factory.text.rows import TextRows, as_prompt, load_text_rows, unique_rows, without
from tools.factory.text.sentence_map import (
    Features,
    SentenceMap,
    fit,
    minilm_directory,
    plain_quality,
    quality,
)
from tools.factory.text.tower import MAX_TOKENS, ascii_vocabulary, export_int8

VERSION = "1.0.0"
TEXT_SPACE = "openai/clip-vit-base-patch32"


@dataclass(frozen=True)
class TextEncoder:
    """What is written, the figures on held-out names, and a line of the card on scenes, or ""."""

    files: dict[str, bytes]
    figures: dict[str, float]
    scenes: str

    @property
    def megabytes(self) -> float:
        """Of the network, its vocabulary and the map."""
        described = ("manifest.json", "MODEL_CARD.md")
        return sum(len(data) for name, data in self.files.items() if name not in described) / 1e6


def build_encoder(weights: Path, scenes: Path | None, bundle: Path) -> TextEncoder:
    """Make, measure and describe the encoder; `scenes` are judged through the image encoder."""
    files, figures = make_encoder(weights)
    rows = load_text_rows(weights)
    figures["support"] = len(unique_rows(rows))
    line = scene_figures(scenes, bundle, rows, _features(files)) if scenes else ""

    meta = json.dumps(manifest(files, figures), indent=1, ensure_ascii=False) + "\n"
    described = {
        "manifest.json": meta.encode(),
        "MODEL_CARD.md": card(files, figures, line).encode(),
    }
    return TextEncoder(files | described, figures, line)


def _features(files: dict[str, bytes]) -> Features:
    return onnx_tower(files["encoder.onnx"], files["tokenizer.json"], "encoder.onnx", MAX_TOKENS)


def make_encoder(weights: Path) -> tuple[dict[str, bytes], dict[str, float]]:
    """(files of the encoder, its figures on the held-out names).

    The figures are those of a map fitted without these names; the map that ships is fitted on all.
    """
    model_dir = minilm_directory()
    whole = json.loads((model_dir / "tokenizer.json").read_text("utf-8"))
    tokenizer, words = ascii_vocabulary(whole)
    files = {
        "encoder.onnx": export_int8(model_dir, words),
        "tokenizer.json": json.dumps(tokenizer, ensure_ascii=False).encode(),
    }

    features = _features(files)
    rows = load_text_rows(weights)
    figures = quality(rows, features)["objects"]
    plain = plain_quality(rows, features)["objects"]
    figures |= {f"plain_{name}": value for name, value in plain.items()}
    files["phrase_map.npz"] = fit(rows, features).to_npz()
    return files, figures


def manifest(files: dict[str, bytes], figures: dict[str, float]) -> dict:
    """manifest.json of the text encoder."""
    return {
        "schema": SCHEMA,
        "name": "minilm-clip-vit-b32",
        "version": VERSION,
        "files": {
            n: {"sha256": hashlib.sha256(d).hexdigest(), "size": len(d)} for n, d in files.items()
        },
        "text_space": TEXT_SPACE,
        "spelling": "a {}",
        "max_tokens": MAX_TOKENS,
        "approximate": True,
        "held_out_names": {name: round(value, 4) for name, value in figures.items()},
        "licences": [
            "sentence encoder: all-MiniLM-L6-v2, Apache-2.0",
            "text embeddings the map was fitted on: OpenAI CLIP, MIT; "
            "facebookresearch/Detic, Apache-2.0",
        ],
    }


CARD = """\
# Text encoder {version}

Any English phrase -> an approximation of its OpenAI CLIP ViT-B/32 text embedding, on the device \
and offline.
`edge-label labels build` runs it in a process of its own; the daemon never loads it.

- **Sentence encoder:** all-MiniLM-L6-v2 (Apache-2.0), vocabulary cut to ASCII, int8 weights, \
{onnx:.1f} MB of ONNX.
- **Map:** kernel ridge regression on its features and on letter n-grams, fitted on {support} \
genuine CLIP text
  embeddings (CLIP: MIT; names and rows from facebookresearch/Detic, Apache-2.0, and others).
- **Size:** {total:.1f} MB in all.

## How good it is

`python -m tools.text_encoder` prints these figures. 400 names of the bank, a fixed draw, were \
held out in every
spelling; the shipped map is then fitted on all names.

| measure | value | plain kernel ridge on the sentence features |
| --- | --- | --- |
| the right name is first of 400 | {first:.1%} | {plain_first:.1%} |
| the right name is among the first five | {first_five:.1%} | {plain_first_five:.1%} |
| mean cosine to the genuine embedding | {cosine:.3f} | {plain_cosine:.3f} |
{scenes}
A row made by a genuine CLIP text tower has cosine 1. Where the bank holds a phrase exactly, the \
bank's row is used,
never this estimate; `edge-label labels check` says which is which.

## What it is not for

It reads English. Words of other scripts become one unknown token. It knows objects best, because \
the names it was
fitted on are objects; long sentences, negations ("no cars") and counts are guesses. For exact \
embeddings give
`edge-label labels build --text-encoder` a real CLIP text tower.
"""


def card(files: dict[str, bytes], figures: dict[str, float], scenes: str) -> str:
    """MODEL_CARD.md."""
    shown = {
        name: value
        for name, value in figures.items()
        if name.endswith(("first", "first_five", "cosine"))
    }
    return CARD.format(
        version=VERSION,
        onnx=len(files["encoder.onnx"]) / 1e6,
        total=sum(map(len, files.values())) / 1e6,
        support=int(figures["support"]),
        scenes=scenes,
        **shown,
    )


def scene_figures(folder: Path, bundle_path: Path, rows: TextRows, features: Features) -> str:
    """A line of the model card: scenes labelled with genuine and with estimated text rows.

    A bundle's image encoder sees the pictures. Only scenes whose name the bank holds exactly can be
    compared; their rows are estimated by a map that was fitted without them.
    """
    truth = unique_rows(rows)
    folders = [path for path in sorted(folder.iterdir()) if path.is_dir()]
    known = [path for path in folders if as_prompt(path.name)[2:] in truth]
    if len(known) < 2:
        raise DataError(f"{folder}: fewer than two folders carry a name that the bank holds")
    names = [as_prompt(path.name)[2:] for path in known]

    bundle = load_bundle(bundle_path)
    preprocess = Preprocessor(bundle.manifest.input)
    encode = Encoder(bundle)
    embeddings = []
    classes = []
    for number, scene in enumerate(known):
        for file in sorted(scene.iterdir()):
            picture = cv2.imread(str(file))
            if picture is not None:
                embeddings.append(encode(preprocess(picture)))
                classes.append(number)

    images = np.stack(embeddings)
    labels = np.array(classes)
    exact = np.stack([truth[name] for name in names])
    estimated = SentenceMap(without(rows, names), features)(names)

    def top_1(text: np.ndarray) -> float:
        return float(((images @ text.T).argmax(1) == labels).mean())

    with_exact = top_1(exact)
    with_estimated = top_1(estimated)
    return (
        f"| {len(labels)} pictures of {len(names)} scenes, top-1 through {bundle.manifest.id} "
        f"| {with_estimated:.1%} "
        f"| with genuine rows {with_exact:.1%}, by chance {1 / len(names):.1%} |\n"
    )
