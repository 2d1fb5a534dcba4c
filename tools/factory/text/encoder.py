"""The text encoder that ships: its files, its manifest, its model card, and how good it is."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edge_runtime.errors import DataError
from edge_runtime.model.bundle import Bundle, load_bundle
from edge_runtime.model.encoder import Encoder
from edge_runtime.model.labels.text_bank import TextBank
from edge_runtime.model.preprocess import Preprocessor
from edge_runtime.model.text.child import SCHEMA
from edge_runtime.model.text.towers import onnx_tower
from edge_runtime.system.opencv import cv2
from tools.factory.text.rows import (
    TextRows,
    as_prompt,
    load_text_rows,
    taught_of,
    unique_rows,
    with_taught,
    without,
)
from tools.factory.text.sentence_map import (
    Features,
    SentenceMap,
    fit,
    minilm_directory,
    plain_quality,
    quality,
)
from tools.factory.text.tower import MAX_TOKENS, ascii_vocabulary, export_int8
from tools.lib import markdown

VERSION = "1.1.0"
TEXT_SPACE = "openai/clip-vit-base-patch32"


Figures = dict[str, dict[str, float]]  # kind of word -> figure -> value


@dataclass(frozen=True)
class TextEncoder:
    """What is written, the figures by kind of word, and a line of the card on scenes, or ""."""

    files: dict[str, bytes]
    figures: Figures
    scenes: str

    @property
    def megabytes(self) -> float:
        """Of the network, its vocabulary and the map."""
        described = ("manifest.json", "MODEL_CARD.md")
        return sum(len(data) for name, data in self.files.items() if name not in described) / 1e6


def build_encoder(weights: Path, scenes: Path | None, bundle: Path) -> TextEncoder:
    """Make, measure and describe the encoder; `scenes` are judged through the image encoder.

    The map learns what pictures taught the bundle's rows.
    """
    rows = load_text_rows(weights)
    loaded = load_bundle(bundle)
    bank = TextBank.from_bundle(loaded)
    taught = taught_of(bank)
    files, figures = make_encoder(rows, taught)
    line = scene_figures(scenes, loaded, rows, _features(files)) if scenes else ""

    source = f"{len(taught)} rows that pictures taught {loaded.manifest.id}" if taught else ""
    meta = json.dumps(manifest(files, figures, source), indent=1, ensure_ascii=False) + "\n"
    support = len(unique_rows(with_taught(rows, taught)))
    described = {
        "manifest.json": meta.encode(),
        "MODEL_CARD.md": card(files, figures, line, support, source).encode(),
    }
    return TextEncoder(files | described, figures, line)


def _features(files: dict[str, bytes]) -> Features:
    return onnx_tower(files["encoder.onnx"], files["tokenizer.json"], "encoder.onnx", MAX_TOKENS)


def make_encoder(rows: TextRows, taught: dict[str, np.ndarray]) -> tuple[dict[str, bytes], Figures]:
    """(files of the encoder, its figures by kind of word).

    The figures are those of a map fitted on genuine rows without the held-out names. The map that
    ships is fitted on all of them, and on the taught rows in place of genuine ones of that name.
    """
    model_dir = minilm_directory()
    whole = json.loads((model_dir / "tokenizer.json").read_text("utf-8"))
    tokenizer, words = ascii_vocabulary(whole)
    files = {
        "encoder.onnx": export_int8(model_dir, words),
        "tokenizer.json": json.dumps(tokenizer, ensure_ascii=False).encode(),
    }

    features = _features(files)
    figures = map_figures(rows, features)
    files["phrase_map.npz"] = fit(with_taught(rows, taught), features).to_npz()
    return files, figures


def map_figures(rows: TextRows, features: Features) -> Figures:
    """How good a map on these features is, and beside it the plainest one ("plain_...")."""
    figures = quality(rows, features)
    for kind, plain in plain_quality(rows, features).items():
        figures[kind] |= {f"plain_{name}": value for name, value in plain.items()}
    return figures


def manifest(files: dict[str, bytes], figures: Figures, taught: str) -> dict:
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
        "taught": taught,
        "held_out_names": {
            kind: {name: round(value, 4) for name, value in own.items()}
            for kind, own in figures.items()
        },
        "licences": [
            "sentence encoder: all-MiniLM-L6-v2, Apache-2.0",
            "text embeddings the map was fitted on: OpenAI CLIP, MIT; "
            "facebookresearch/Detic, Apache-2.0; gstoica27/KnOTS, MIT",
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
CLIP text embeddings
  (CLIP: MIT; names and rows from facebookresearch/Detic, Apache-2.0, gstoica27/KnOTS, MIT, and \
others).{taught}
- **Size:** {total:.1f} MB in all.

## How good it is

`python -m tools.text_encoder` prints these figures. A quarter of the names of each kind of word, \
a fixed draw and
400 at most, were held out together, in every spelling. The right name is looked for among the \
held-out names of its
kind. The shipped map is then fitted on all names.

{table}
{scenes}
A row made by a genuine CLIP text tower has cosine 1. Where the bank holds a phrase exactly, the \
bank's row is used,
never this estimate; `edge-label labels check` says which is which.

## What it is not for

It reads English. Words of other scripts become one unknown token. It knows objects and scenes \
best, because most
names that it was fitted on are of these kinds; long sentences, negations ("no cars") and counts \
are guesses. For exact
embeddings give `edge-label labels build --text-encoder` a real CLIP text tower.
"""


def figures_table(figures: Figures) -> str:
    """Markdown: a line for each kind of word, beside the plainest map on the same features."""
    head = ["kind of word", "held out", "right name first", "in the first five", "cosine"]
    head += ["plain kernel ridge: first", "cosine"]
    lines = [
        [
            kind,
            str(own["names"]),
            *(f"{own[name]:.1%}" for name in ("first", "first_five")),
            f"{own['cosine']:.3f}",
            f"{own['plain_first']:.1%}",
            f"{own['plain_cosine']:.3f}",
        ]
        for kind, own in figures.items()
    ]
    return markdown.table(head, lines, "lr")


def card(files: dict[str, bytes], figures: Figures, scenes: str, support: int, taught: str) -> str:
    """MODEL_CARD.md."""
    also = f" Among them are {taught}, so it serves that\n  encoder best." if taught else ""
    return CARD.format(
        version=VERSION,
        onnx=len(files["encoder.onnx"]) / 1e6,
        total=sum(map(len, files.values())) / 1e6,
        support=support,
        taught=also,
        table=figures_table(figures),
        scenes=scenes,
    )


def scene_figures(folder: Path, bundle: Bundle, rows: TextRows, features: Features) -> str:
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
        f"\n{len(labels)} pictures of {len(names)} scenes, top-1 through {bundle.manifest.id}: "
        f"{with_estimated:.1%} with estimated rows, {with_exact:.1%} with genuine ones, "
        f"{1 / len(names):.1%} by chance.\n"
    )
