"""Any phrase -> an embedding in the bundle's text space, in a short-lived process of its own.

The caller's side is ``encode_phrases``; ``python -m edge_runtime.model.text.encoder`` is the child that loads the
tokenizer and the network and is gone again when the rows are made. The daemon never imports either.

Three kinds of encoder, told apart by what is given:
- a folder with our manifest.json (models/text-encoder): files verified by sha256;
- a folder with a CLIP text tower in ONNX (text_model.onnx or model.onnx) and its tokenizer.json;
- anything else: a CLIP that the transformers library can load, by folder or by name.
"""

from __future__ import annotations

import importlib
import io
import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_runtime.errors import BundleError, ConfigError, DataError, NoInputError, first_line
from edge_runtime.model.bundle import checkout_models, read_verified
from edge_runtime.model.npy import read_embeddings
from edge_runtime.system import child
from edge_runtime.system.digest import sha256_hex

SCHEMA = "edge-label-text-encoder/1"
DEFAULT_NAME = "text-encoder"
_TOWERS = ("text_model.onnx", "onnx/text_model.onnx", "model.onnx")
_BATCH_TOKENS = (
    1024  # a batch makes int8 weights float32 once, so few large batches; more would cost memory
)
_TIMEOUT_S = 300  # and a second for each phrase

Rows = NDArray[np.float32]
Encode = Callable[[Sequence[str]], Rows]


@dataclass(frozen=True, slots=True)
class Encoded:
    """``rows`` is float32 (phrases, dim), unit norm; ``encoder`` says who made them, with a hash where there is one."""

    rows: NDArray[np.float32]
    encoder: str
    approximate: bool


def find_text_encoder(wanted: str | None = None, bundle: Path | None = None) -> str:
    """The encoder as given, else $EDGE_LABEL_TEXT_ENCODER, else beside the bundle, else the first usual place."""
    given = wanted or os.environ.get("EDGE_LABEL_TEXT_ENCODER")
    if given:
        if (
            given.startswith(("/", ".")) and not Path(given).exists()
        ):  # else it may be a model's name
            raise NoInputError(f"{given}: no such text encoder", "check --text-encoder")
        return given
    places = [
        *([bundle.absolute().with_name(DEFAULT_NAME)] if bundle else []),
        Path("/var/lib/edge-label") / DEFAULT_NAME,
        *checkout_models(DEFAULT_NAME),
        Path("/usr/share/edge-label/models") / DEFAULT_NAME,
    ]
    for place in places:
        if os.access(
            place / "manifest.json", os.R_OK
        ):  # the service's own folder is closed to other users
            return str(place)
    raise NoInputError(
        f"no text encoder found in {', '.join(str(p) for p in places)}",
        f"copy models/{DEFAULT_NAME} from the edge-label repository to one of them, or give --text-encoder PATH",
    )


def encoder_hash(encoder: str) -> str:
    """What identifies an encoder's answers: a hash over its manifest or its files; the name itself for a hub name."""
    folder = Path(encoder)
    if (folder / "manifest.json").is_file():
        return sha256_hex((folder / "manifest.json").read_bytes())
    if not folder.is_dir():
        return sha256_hex(encoder.encode())
    stats = [
        (file.name, file.stat()) for file in sorted(p for p in folder.rglob("*") if p.is_file())
    ]
    return sha256_hex(
        *(f"{name} {stat.st_size} {stat.st_mtime_ns}".encode() for name, stat in stats)
    )


def encode_phrases(phrases: Sequence[str], encoder: str) -> Encoded:
    """Run the child on the phrases. Raises DataError with the child's own line when it fails."""
    try:
        done = subprocess.run(  # noqa: S603 - this interpreter and this module; the encoder is one argument
            child.command("edge_runtime.model.text.encoder", encoder),
            input=json.dumps(list(phrases)).encode(),
            capture_output=True,
            timeout=_TIMEOUT_S + len(phrases),
            check=False,
            env={"HF_HUB_OFFLINE": "1", **os.environ},
        )
    except subprocess.TimeoutExpired:
        raise DataError(
            f"text encoder {encoder}: no answer within {_TIMEOUT_S + len(phrases)} s",
            "give it fewer phrases",
        ) from None
    if done.returncode:
        lines = done.stderr.decode(errors="replace").strip().splitlines() or [
            f"ended with {done.returncode}"
        ]
        raise DataError(f"text encoder {encoder}: {lines[-1]}")
    head, _, array = done.stdout.partition(b"\n")
    meta = json.loads(head)
    rows = read_embeddings(array, f"text encoder {encoder}").astype(np.float32)
    return Encoded(rows, str(meta["encoder"]), bool(meta["approximate"]))


# --- the child ---


def main() -> int:
    """JSON list of phrases on stdin; one JSON line and ``.npy`` float32 (N, dim) on stdout."""
    encoder = sys.argv[1]
    out, sys.stdout = (
        sys.stdout.buffer,
        sys.stderr,
    )  # what a library prints is no part of the answer
    try:
        phrases = json.load(sys.stdin)
        encode, name, approximate = _open(encoder)
        rows = encode(phrases)
    except (
        Exception
    ) as error:  # whatever a foreign tower or tokenizer raises becomes the parent's one line
        print(first_line(error), file=sys.stderr)  # noqa: T201
        return 1
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    array = io.BytesIO()
    np.save(array, rows.astype(np.float32), allow_pickle=False)
    out.write(
        json.dumps({"encoder": name, "approximate": approximate}).encode()
        + b"\n"
        + array.getvalue()
    )
    out.flush()
    return 0


def _open(encoder: str) -> tuple[Encode, str, bool]:
    folder = Path(encoder)
    if (folder / "manifest.json").is_file():
        return _open_shipped(folder)
    for tower in _TOWERS:
        if (folder / tower).is_file():
            data = (folder / tower).read_bytes()
            tokenizer = (folder / "tokenizer.json").read_bytes()
            name = f"{folder.name} {sha256_hex(data, tokenizer)[:16]}"
            return onnx_tower(data, tokenizer, str(folder / tower), 77), name, False
    return _transformers_tower(encoder), encoder, False


def _open_shipped(folder: Path) -> tuple[Encode, str, bool]:
    """Our own format: a text tower, or a sentence encoder and the map from it to the text space (phrase_map.py)."""
    from edge_runtime.model.labels.phrases import bare, normalise
    from edge_runtime.model.text.phrase_map import PhraseMap

    where = folder / "manifest.json"
    try:
        meta: dict[str, Any] = json.loads(where.read_bytes())
        if meta["schema"] != SCHEMA:
            raise ValueError(f"schema {meta['schema']!r} is not {SCHEMA}")
        files: dict[str, bytes] = {
            name: read_verified(folder, name, str(entry["sha256"]), int(entry["size"]))
            for name, entry in dict(meta["files"]).items()
        }
        spelling, longest = str(meta["spelling"]), int(meta["max_tokens"])
        digest = sha256_hex("".join(str(e["sha256"]) for e in meta["files"].values()).encode())
        name = f"{meta['name']}-{meta['version']} {digest[:16]}"
        approximate = bool(meta["approximate"])
        phrase_map = (
            PhraseMap.from_npz(files["phrase_map.npz"]) if "phrase_map.npz" in files else None
        )
        tower = onnx_tower(files.pop("encoder.onnx"), files["tokenizer.json"], str(folder), longest)
    except (KeyError, ValueError, TypeError, AttributeError, OverflowError) as error:
        raise BundleError(f"{where}: not a text encoder ({error})", "reinstall it") from None
    kernel = phrase_map.kernel() if phrase_map else None

    def encode(phrases: Sequence[str]) -> Rows:
        short = [bare(normalise(phrase)) for phrase in phrases]
        rows = tower([spelling.replace("{}", phrase) for phrase in short])
        return phrase_map.rows(kernel, rows, short) if phrase_map and kernel else rows

    return encode, name, approximate


def onnx_tower(model: bytes, tokenizer_json: bytes, where: str, longest: int) -> Encode:
    """Tokenize, run, and take the one output with a row a phrase. Phrases of like length share a batch."""
    try:
        tokenizer = importlib.import_module("tokenizers").Tokenizer.from_buffer(tokenizer_json)
    except ModuleNotFoundError:
        raise ConfigError(
            "needs the tokenizers library", "pip install 'edge-label[text]'"
        ) from None
    from edge_runtime.model.encoder import default_threads, open_session

    session = open_session(model, default_threads(), where, lean=True)
    inputs = {
        port.name: np.int32 if "int32" in port.type else np.int64 for port in session.get_inputs()
    }
    outputs = [port.name for port in session.get_outputs() if len(port.shape) == 2]
    if not outputs or "input_ids" not in inputs:
        raise BundleError(
            f"{where}: takes no input_ids or gives no embedding of two axes", "not a text tower"
        )
    output = next((name for name in ("embedding", "text_embeds") if name in outputs), outputs[0])
    tokenizer.enable_truncation(longest)
    tokenizer.no_padding()
    pad = tokenizer.token_to_id("[PAD]") or tokenizer.token_to_id("<|endoftext|>") or 0

    def encode(phrases: Sequence[str]) -> Rows:
        ids = [encoding.ids for encoding in tokenizer.encode_batch(list(phrases))]
        waiting = sorted(range(len(ids)), key=lambda i: len(ids[i]))
        parts: dict[int, Rows] = {}
        while waiting:
            # The longest come first; those beside them are nearly as long, so little is padding.
            width = max(1, len(ids[waiting[-1]]))
            batch = waiting[-max(1, _BATCH_TOKENS // width) :]
            del waiting[-len(batch) :]
            tokens = np.array([ids[i] + [pad] * (width - len(ids[i])) for i in batch])
            mask = np.array([[1] * len(ids[i]) + [0] * (width - len(ids[i])) for i in batch])
            feeds = {
                "input_ids": tokens,
                "attention_mask": mask,
                "token_type_ids": np.zeros_like(tokens),
            }
            rows = session.run([output], {n: feeds[n].astype(kind) for n, kind in inputs.items()})[
                0
            ]
            parts.update(zip(batch, rows, strict=True))
        return np.stack([parts[i] for i in range(len(ids))]).astype(np.float32)

    return encode


def _transformers_tower(name: str) -> Encode:
    """A CLIP from transformers. Imported by name: it exists on a workstation, and only this child ever asks for it."""
    try:
        transformers, torch = (
            importlib.import_module(library) for library in ("transformers", "torch")
        )
    except ModuleNotFoundError:
        raise ConfigError(
            "neither a text encoder folder nor is transformers installed to load it by name",
            "check the path",
        ) from None
    transformers.logging.set_verbosity_error()
    model = transformers.AutoModel.from_pretrained(name).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(name)
    if not hasattr(model, "get_text_features"):
        raise ConfigError(f"a {type(model).__name__} has no text tower", "name a CLIP")

    def encode(phrases: Sequence[str]) -> Rows:
        parts = []
        with torch.no_grad():
            for start in range(0, len(phrases), 32):
                batch = list(phrases[start : start + 32])
                features = model.get_text_features(
                    **tokenizer(batch, padding=True, truncation=True, return_tensors="pt")
                )
                parts.append(getattr(features, "pooler_output", features).float().numpy())
        return np.concatenate(parts).astype(np.float32)

    return encode


if __name__ == "__main__":
    raise SystemExit(main())
