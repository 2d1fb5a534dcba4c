"""The child that embeds phrases: ``python -m edge_runtime.model.text.child ENCODER``.

It loads one of three kinds of encoder, told apart by what lies there:
- a folder with our manifest.json (models/text-encoder): files verified by sha256;
- a folder with a CLIP text tower in ONNX (text_model.onnx or model.onnx) and its tokenizer.json;
- anything else: a CLIP that the transformers library can load, by folder or by name.

How the phrases are run is in ``towers.py``.
"""

from __future__ import annotations

import ctypes
import io
import json
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from edge_runtime.errors import BundleError, first_line
from edge_runtime.model.bundle import read_verified
from edge_runtime.model.labels.phrases import bare, normalise
from edge_runtime.model.text.phrase_map import PhraseMap
from edge_runtime.model.text.towers import Encode, Rows, onnx_tower, transformers_tower
from edge_runtime.system.digest import sha256_hex

SCHEMA = "edge-label-text-encoder/1"
_TOWERS = ("text_model.onnx", "onnx/text_model.onnx", "model.onnx")
_CLIP_TOKENS = 77  # what OpenAI's CLIP reads of a phrase


def main() -> int:
    """JSON list of phrases on stdin; one JSON line and ``.npy`` float32 (N, dim) on stdout."""
    _give_way()
    # What a library prints is no part of the answer, so it goes to stderr.
    answer = sys.stdout.buffer
    sys.stdout = sys.stderr

    try:
        phrases = json.load(sys.stdin)
        encode, name, approximate = _open(sys.argv[1])
        rows = encode(phrases)
    except Exception as error:
        # Whatever a foreign tower or tokenizer raises becomes the parent's one line.
        print(first_line(error), file=sys.stderr)  # noqa: T201
        return 1

    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    array = io.BytesIO()
    np.save(array, rows.astype(np.float32), allow_pickle=False)
    head = json.dumps({"encoder": name, "approximate": approximate}).encode()
    answer.write(head + b"\n" + array.getvalue())
    answer.flush()
    return 0


def _give_way() -> None:
    """Be the first that the kernel ends where memory is short, and never outlive the parent.

    No lower priority: a daemon that labels as fast as it can would leave it no time at all.
    """
    try:
        Path("/proc/self/oom_score_adj").write_text("1000")
    except OSError:
        pass
    pr_set_pdeathsig = 1  # <linux/prctl.h>
    ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGKILL, 0, 0, 0)


def _open(encoder: str) -> tuple[Encode, str, bool]:
    """The encoder as a function, its name, and whether it only estimates."""
    folder = Path(encoder)
    if (folder / "manifest.json").is_file():
        return _open_shipped(folder)

    for tower in _TOWERS:
        if (folder / tower).is_file():
            model = (folder / tower).read_bytes()
            tokenizer = (folder / "tokenizer.json").read_bytes()
            name = f"{folder.name} {sha256_hex(model, tokenizer)[:16]}"
            return onnx_tower(model, tokenizer, str(folder / tower), _CLIP_TOKENS), name, False

    return transformers_tower(encoder), encoder, False


def _open_shipped(folder: Path) -> tuple[Encode, str, bool]:
    """Our own format: a text tower, or a sentence encoder and a map to the text space."""
    where = folder / "manifest.json"
    try:
        meta: dict[str, Any] = json.loads(where.read_bytes())
        if meta["schema"] != SCHEMA:
            raise ValueError(f"schema {meta['schema']!r} is not {SCHEMA}")

        files = {
            name: read_verified(folder, name, str(entry["sha256"]), int(entry["size"]))
            for name, entry in dict(meta["files"]).items()
        }
        hashes = "".join(str(entry["sha256"]) for entry in meta["files"].values())
        name = f"{meta['name']}-{meta['version']} {sha256_hex(hashes.encode())[:16]}"

        phrase_map = None
        if "phrase_map.npz" in files:
            phrase_map = PhraseMap.from_npz(files["phrase_map.npz"])

        # pop: the model is the largest file, and the session has its own copy of it.
        model = files.pop("encoder.onnx")
        tower = onnx_tower(model, files["tokenizer.json"], str(folder), int(meta["max_tokens"]))
        encode = _spelled(tower, str(meta["spelling"]), phrase_map)
        return encode, name, bool(meta["approximate"])
    except (KeyError, ValueError, TypeError, AttributeError, OverflowError) as error:
        raise BundleError(f"{where}: not a text encoder ({error})", "reinstall it") from error


def _spelled(tower: Encode, spelling: str, phrase_map: PhraseMap | None) -> Encode:
    """The tower for phrases as people write them, in the spelling that it was fitted with."""
    kernel = phrase_map.kernel() if phrase_map else None

    def encode(phrases: Sequence[str]) -> Rows:
        names = [bare(normalise(phrase)) for phrase in phrases]
        rows = tower([spelling.replace("{}", name) for name in names])
        if phrase_map is None or kernel is None:
            return rows
        return phrase_map.rows(kernel, rows, names)

    return encode


if __name__ == "__main__":
    raise SystemExit(main())
