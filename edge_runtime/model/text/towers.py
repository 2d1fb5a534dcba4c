"""Text towers: phrases -> one row each, by ONNX Runtime or by the transformers library.

Both need a library that nothing else here needs, imported by name and only here.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_runtime.errors import BundleError, ConfigError
from edge_runtime.model.encoder import default_threads, open_session

# A lean session makes int8 weights float32 once a batch, so few large batches are fastest. Of 500
# phrases, 1024 tokens cost 40 MB more than 512 and save no time.
_BATCH_TOKENS = 512
_BATCH_PHRASES = 32  # for transformers

Rows = NDArray[np.float32]
Encode = Callable[[Sequence[str]], Rows]


def onnx_tower(model: bytes, tokenizer_json: bytes, where: str, max_tokens: int) -> Encode:
    """A function from phrases to float32 rows (N, dim), of a graph and its tokenizer.

    Raises BundleError for a graph that is no text tower, ConfigError without the tokenizers
    library.
    """
    tokenizer = _tokenizer(tokenizer_json, max_tokens)
    pad = tokenizer.token_to_id("[PAD]") or tokenizer.token_to_id("<|endoftext|>") or 0

    session = open_session(model, default_threads(), where, lean=True)
    types = {
        port.name: np.int32 if "int32" in port.type else np.int64 for port in session.get_inputs()
    }
    output = _embedding_output(session, types, where)

    def run(token_ids: list[list[int]]) -> Rows:
        feeds = _feeds(token_ids, pad)
        inputs = {name: feeds[name].astype(kind) for name, kind in types.items()}
        rows: Rows = session.run([output], inputs)[0]
        return rows

    def encode(phrases: Sequence[str]) -> Rows:
        token_ids = [encoding.ids for encoding in tokenizer.encode_batch(list(phrases))]
        parts: dict[int, Rows] = {}
        for batch in _batches([len(ids) for ids in token_ids]):
            rows = run([token_ids[i] for i in batch])
            parts.update(zip(batch, rows, strict=True))
        return np.stack([parts[i] for i in range(len(token_ids))]).astype(np.float32)

    return encode


def _feeds(token_ids: list[list[int]], pad: int) -> dict[str, NDArray[np.int64]]:
    """Every input that a text tower may take, by its usual name, padded to the longest phrase."""
    longest = max(len(ids) for ids in token_ids)
    shape = (len(token_ids), max(1, longest))

    tokens = np.full(shape, pad, np.int64)
    mask = np.zeros(shape, np.int64)
    for row, ids in enumerate(token_ids):
        tokens[row, : len(ids)] = ids
        mask[row, : len(ids)] = 1

    return {
        "input_ids": tokens,
        "attention_mask": mask,
        "token_type_ids": np.zeros(shape, np.int64),
    }


def _tokenizer(tokenizer_json: bytes, max_tokens: int) -> Any:
    try:
        tokenizers = importlib.import_module("tokenizers")
    except ModuleNotFoundError as error:
        raise ConfigError(
            "needs the tokenizers library", "install edge-label again, with its dependencies"
        ) from error

    tokenizer = tokenizers.Tokenizer.from_buffer(tokenizer_json)
    tokenizer.enable_truncation(max_tokens)
    tokenizer.no_padding()
    return tokenizer


def _embedding_output(session: Any, inputs: dict[str, Any], where: str) -> str:
    """The one output with a row a phrase; towers may also give a row a token."""
    outputs = [port.name for port in session.get_outputs() if len(port.shape) == 2]
    if not outputs or "input_ids" not in inputs:
        raise BundleError(
            f"{where}: takes no input_ids or gives no embedding of two axes", "not a text tower"
        )

    for name in ("embedding", "text_embeds"):
        if name in outputs:
            return name
    return str(outputs[0])


def _batches(lengths: list[int]) -> Iterator[list[int]]:
    """Positions of phrases that are run together.

    The longest come first; those beside them are nearly as long, so little is padding.
    """
    waiting = sorted(range(len(lengths)), key=lambda i: lengths[i])
    while waiting:
        width = max(1, lengths[waiting[-1]])
        batch = waiting[-max(1, _BATCH_TOKENS // width) :]
        del waiting[-len(batch) :]
        yield batch


def transformers_tower(name: str) -> Encode:
    """The text tower of a CLIP in the transformers library.

    Raises ConfigError where the library is not installed, or the model is no CLIP.
    """
    try:
        transformers = importlib.import_module("transformers")
        torch = importlib.import_module("torch")
    except ModuleNotFoundError as error:
        raise ConfigError(
            "this folder holds no text encoder, and transformers is not installed to load it "
            "by name",
            "check the path",
        ) from error

    transformers.logging.set_verbosity_error()
    model = transformers.AutoModel.from_pretrained(name).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(name)
    if not hasattr(model, "get_text_features"):
        raise ConfigError(f"a {type(model).__name__} has no text tower", "name a CLIP")

    def encode(phrases: Sequence[str]) -> Rows:
        parts = []
        with torch.no_grad():
            for start in range(0, len(phrases), _BATCH_PHRASES):
                batch = list(phrases[start : start + _BATCH_PHRASES])
                tokens = tokenizer(batch, padding=True, truncation=True, return_tensors="pt")
                features = model.get_text_features(**tokens)
                # Newer releases return an object that holds the tensor.
                parts.append(getattr(features, "pooler_output", features).float().numpy())
        return np.concatenate(parts).astype(np.float32)

    return encode
