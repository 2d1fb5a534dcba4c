"""A checkpoint of open_clip becomes a folder that transformers loads, and so every verb.

open_clip names the same tensors differently, keeps query, key and value in one matrix, and leaves
the shape of the network and its vocabulary to files of its package. The package is read here and
never imported: nothing of it is needed to run.
"""

from __future__ import annotations

import gzip
import importlib.util
import json
import re
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from edge_runtime.errors import DataError, NoInputError
from tools.factory.students.weights import read_file

VOCABULARY = "bpe_simple_vocab_16e6.txt.gz"  # in open_clip's package, the same for every CLIP

# What is read of a model's configuration. Anything else that is set makes another network.
_TOP = {"embed_dim", "quick_gelu", "vision_cfg", "text_cfg"}
_VISION = {"image_size", "layers", "width", "patch_size", "head_width", "mlp_ratio"}
_TEXT = {"context_length", "vocab_size", "width", "heads", "layers", "mlp_ratio"}
# Settings that change nothing of what a trained network answers, and with which values; None: any.
_NO_CHANGE = {
    "custom_text": (True,),  # only puts "text." in front of the names
    "patch_dropout": None,
    "output_tokens": None,
    "init_logit_bias": None,
    "pool_type": ("tok", "argmax"),
}

_OTHER = (
    "take the same model from transformers, or its image tower as ONNX (teacher onnx:TOWER.onnx)"
)

# open_clip's names as patterns, and what transformers calls the same tensor.
_NAMES = [
    (r"logit_scale", "logit_scale"),
    (r"token_embedding\.weight", "text_model.embeddings.token_embedding.weight"),
    (r"positional_embedding", "text_model.embeddings.position_embedding.weight"),
    (r"ln_final\.(\w+)", r"text_model.final_layer_norm.\1"),
    (r"text_projection", "text_projection.weight"),
    (r"visual\.class_embedding", "vision_model.embeddings.class_embedding"),
    (r"visual\.conv1\.weight", "vision_model.embeddings.patch_embedding.weight"),
    (r"visual\.positional_embedding", "vision_model.embeddings.position_embedding.weight"),
    (r"visual\.ln_pre\.(\w+)", r"vision_model.pre_layrnorm.\1"),
    (r"visual\.ln_post\.(\w+)", r"vision_model.post_layernorm.\1"),
    (r"visual\.proj", "visual_projection.weight"),
    (r"visual\.transformer\.resblocks\.(\d+)\.(.+)", r"vision_model.encoder.layers.\1.\2"),
    (r"transformer\.resblocks\.(\d+)\.(.+)", r"text_model.encoder.layers.\1.\2"),
]
_IN_A_LAYER = {
    "attn.out_proj": "self_attn.out_proj",
    "ln_1": "layer_norm1",
    "ln_2": "layer_norm2",
    "mlp.c_fc": "mlp.fc1",
    "mlp.c_proj": "mlp.fc2",
}
_TRANSPOSED = ("text_projection.weight", "visual_projection.weight")
_NOT_USED = {"attn_mask", "logit_bias", "input_resolution", "context_length", "vocab_size"}


@dataclass(frozen=True)
class OpenClipModel:
    """Where open_clip describes a model: its configuration and the vocabulary of its texts."""

    config: Path
    vocabulary: Path


def find_model(name: str, vocabulary: Path | None = None) -> OpenClipModel:
    """A model by open_clip's name for it (``ViT-B-32``), or by its configuration as a JSON file.

    Raises NoInputError for a name that the installed open_clip does not know, or if it is missing.
    """
    spec = importlib.util.find_spec("open_clip")
    package = None
    if spec is not None and spec.submodule_search_locations:
        package = Path(spec.submodule_search_locations[0])

    config = Path(name)
    if config.suffix != ".json":
        if package is None:
            raise NoInputError(
                f"{name}: open_clip is not installed here, so nobody says what that is",
                "pip install --no-deps open_clip_torch, or give the model's JSON file",
            )
        config = package / "model_configs" / f"{name}.json"
    if vocabulary is None and package is not None:
        vocabulary = package / VOCABULARY
    if not config.is_file():
        raise NoInputError(
            f"{name}: no such model ({config})", "open_clip.list_models() lists them"
        )
    if vocabulary is None or not vocabulary.is_file():
        raise NoInputError(
            f"{vocabulary or VOCABULARY}: no such vocabulary",
            "give --vocabulary: the file is part of open_clip",
        )
    return OpenClipModel(config, vocabulary)


def convert(model: OpenClipModel, weights: Path, output: Path) -> str:
    """Write the folder ``output``, which transformers loads as a CLIP; what was made, as a line.

    Raises DataError for a network that is no plain CLIP, and for weights that do not fit it.
    """
    import transformers

    settings = _read_settings(model.config)
    clip = transformers.CLIPModel(_configuration(settings, model.config))
    state = _rename(_read_weights(weights), weights)
    try:
        clip.load_state_dict(state)
    except RuntimeError as error:
        reasons = [line.strip() for line in str(error).splitlines()[1:]]
        raise DataError(
            f"{weights}: not the weights of {model.config.stem}: {reasons[0]}",
            "check the model's name",
        ) from error

    clip.save_pretrained(output)
    pictures = _image_processor(settings, model.config)
    tokenizer = _tokenizer(model.vocabulary, settings["text_cfg"])
    transformers.CLIPProcessor(pictures, tokenizer).save_pretrained(output)
    millions = sum(tensor.numel() for tensor in state.values()) / 1e6
    return (
        f"{output}: {model.config.stem}, {millions:.1f} million weights, "
        f"{settings['vision_cfg']['image_size']} pixels, {settings['embed_dim']} dimensions"
    )


def _read_settings(path: Path) -> dict[str, Any]:
    """embed_dim, quick_gelu, vision_cfg, text_cfg and preprocess_cfg of a plain CLIP."""
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        settings = document.get("model_cfg", document)
        parts = [(settings, _TOP), (settings["vision_cfg"], _VISION), (settings["text_cfg"], _TEXT)]
    except (ValueError, KeyError, AttributeError, TypeError) as error:
        raise DataError(f"{path}: not the configuration of an open_clip model ({error})") from error

    for part, known in parts:
        for key, value in part.items():
            if key in known or not value:
                continue
            harmless = _NO_CHANGE.get(key, ())
            if harmless is not None and value not in harmless:
                raise DataError(f"{path}: {key} is {value}, so this is no plain CLIP", _OTHER)
    if not isinstance(settings["vision_cfg"].get("layers"), int):
        raise DataError(f"{path}: its image tower is no transformer", _OTHER)
    return {**settings, "preprocess_cfg": document.get("preprocess_cfg", {})}


def _configuration(settings: dict[str, Any], path: Path) -> Any:
    """transformers' configuration of the same network."""
    import transformers

    vision = settings["vision_cfg"]
    text = settings["text_cfg"]
    activation = "quick_gelu" if settings.get("quick_gelu") else "gelu"
    try:
        vision_config = {
            "hidden_size": vision["width"],
            "intermediate_size": int(vision["width"] * vision.get("mlp_ratio", 4)),
            "num_hidden_layers": vision["layers"],
            "num_attention_heads": vision["width"] // vision.get("head_width", 64),
            "image_size": vision["image_size"],
            "patch_size": vision["patch_size"],
            "hidden_act": activation,
        }
        text_config = {
            "hidden_size": text["width"],
            "intermediate_size": int(text["width"] * text.get("mlp_ratio", 4)),
            "num_hidden_layers": text["layers"],
            "num_attention_heads": text["heads"],
            "max_position_embeddings": text["context_length"],
            "vocab_size": text["vocab_size"],
            # The last two of the vocabulary; a text is read off at its end.
            "bos_token_id": text["vocab_size"] - 2,
            "eos_token_id": text["vocab_size"] - 1,
            "hidden_act": activation,
        }
        return transformers.CLIPConfig(
            text_config=text_config,
            vision_config=vision_config,
            projection_dim=settings["embed_dim"],
        )
    except (KeyError, TypeError) as error:
        raise DataError(f"{path}: {error} is missing or no number") from error


def _read_weights(path: Path) -> dict[str, Tensor]:
    """A state dict, also out of a checkpoint of open_clip's training."""
    if not path.is_file():
        raise NoInputError(f"{path}: no such weights", "check the path")
    state = read_file(path)
    state = state.get("state_dict", state) if isinstance(state, dict) else state
    if not isinstance(state, dict) or not all(isinstance(v, Tensor) for v in state.values()):
        raise DataError(
            f"{path}: holds no weights by name",
            "save them with torch.save(model.state_dict(), FILE)",
        )
    # Training on several GPUs puts "module." in front, and some models "text.".
    return {re.sub(r"^(module\.)?(text\.)?", "", name): t for name, t in state.items()}


def _rename(state: dict[str, Tensor], path: Path) -> dict[str, Tensor]:
    """The same tensors as transformers names them."""
    renamed: dict[str, Tensor] = {}
    for name, tensor in state.items():
        if name not in _NOT_USED:
            renamed.update(_rename_one(name, tensor.float(), path))
    return renamed


def _rename_one(name: str, tensor: Tensor, path: Path) -> dict[str, Tensor]:
    for pattern, replacement in _NAMES:
        found = re.fullmatch(pattern, name)
        if found:
            new = found.expand(replacement)
            break
    else:
        raise DataError(f"{path}: '{name}' is no tensor of a plain CLIP", _OTHER)

    if new in _TRANSPOSED:
        return {new: tensor.T.contiguous()}
    if ".attn.in_proj_" in new:
        layer, kind = new.split("attn.in_proj_")
        parts = zip("qkv", tensor.chunk(3), strict=True)
        return {f"{layer}self_attn.{letter}_proj.{kind}": part.clone() for letter, part in parts}
    if ".encoder.layers." in new:
        inner, _, kind = new.split(".", 4)[4].rpartition(".")
        new = f"{new.removesuffix(f'{inner}.{kind}')}{_IN_A_LAYER.get(inner, inner)}.{kind}"
    return {new: tensor}


def _image_processor(settings: dict[str, Any], path: Path) -> Any:
    """Shortest side to the model's size, then the centre, as open_clip does by default."""
    import transformers

    side = settings["vision_cfg"]["image_size"]
    chosen = settings["preprocess_cfg"]
    interpolation = chosen.get("interpolation", "bicubic")
    resize = chosen.get("resize_mode", "shortest")
    if interpolation not in ("bicubic", "bilinear") or resize != "shortest":
        raise DataError(f"{path}: pictures are resized by {resize}, {interpolation}", _OTHER)

    options = {key: chosen[key] for key in ("mean", "std") if key in chosen}
    return transformers.CLIPImageProcessor(
        size={"shortest_edge": side},
        crop_size={"height": side, "width": side},
        resample={"bilinear": 2, "bicubic": 3}[interpolation],
        **{f"image_{key}": value for key, value in options.items()},
    )


def _tokenizer(vocabulary: Path, text: dict[str, Any]) -> Any:
    """CLIP's byte-pair tokenizer out of open_clip's list of merges."""
    import transformers

    size = text["vocab_size"]
    try:
        lines = gzip.decompress(vocabulary.read_bytes()).decode("utf-8").split("\n")
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise DataError(f"{vocabulary}: not open_clip's vocabulary ({error})") from error

    # One line of header; then the bytes, twice, and the two marks leave room for so many merges.
    merges = [line.strip() for line in lines[1:]][: size - 2 * 256 - 2]
    letters = list(_byte_letters().values())
    tokens = [*letters, *(letter + "</w>" for letter in letters)]
    tokens += ["".join(merge.split()) for merge in merges]
    tokens += ["<|startoftext|>", "<|endoftext|>"]
    if len(tokens) != size:
        raise DataError(f"{vocabulary}: gives {len(tokens)} tokens, the model has {size}")

    with tempfile.TemporaryDirectory() as folder:
        names = Path(folder, "vocab.json"), Path(folder, "merges.txt")
        names[0].write_text(json.dumps({token: number for number, token in enumerate(tokens)}))
        names[1].write_text("\n".join(["#version: 0.2", *merges, ""]), encoding="utf-8")
        return transformers.CLIPTokenizer(*map(str, names), model_max_length=text["context_length"])


def _byte_letters() -> dict[int, str]:
    """Byte -> the printable letter that stands for it in the merges, in CLIP's order."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    letters = {byte: chr(byte) for byte in printable}
    others = [byte for byte in range(256) if byte not in letters]
    return letters | {byte: chr(256 + number) for number, byte in enumerate(others)}
