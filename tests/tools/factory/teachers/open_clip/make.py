"""Makes the other files of this folder, with open_clip 3.3: `python make.py`.

A random CLIP of two layers with the vocabulary of twenty merges, three pictures and five phrases,
and the embeddings that open_clip gives them.
"""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import numpy as np
import open_clip
import torch
from open_clip.factory import add_model_config
from open_clip.tokenizer import SimpleTokenizer
from PIL import Image
from safetensors.torch import save_file

HERE = Path(__file__).parent
MERGES = """t h, th e</w>, a n, r e, p h, o t, ph ot, phot o</w>, o f</w>, o g</w>, f og</w>, c a,
ca b</w>, l a, la k, lak e</w>, h i, hi l, hil l</w>, d og</w>""".replace("\n", " ").split(", ")
PHRASES = ["the cab", "a photo of fog", "Hill & lake!", "dog's café 42", "the lake " * 12]
CONFIG = {
    "embed_dim": 16,
    "quick_gelu": True,
    "vision_cfg": {
        "image_size": 32,
        "layers": 2,
        "width": 16,
        "head_width": 8,
        "patch_size": 16,
    },
    "text_cfg": {
        "context_length": 20,
        "vocab_size": 512 + len(MERGES) + 2,
        "width": 24,
        "heads": 2,
        "layers": 2,
    },
}

with gzip.GzipFile(HERE / "bpe.txt.gz", "wb", mtime=0) as stream:
    stream.write("\n".join(["# merges of a tiny vocabulary", *MERGES]).encode())
(HERE / "tiny.json").write_text(json.dumps(CONFIG, indent=1) + "\n")

add_model_config(HERE / "tiny.json")
torch.manual_seed(0)
model, _, prepare = open_clip.create_model_and_transforms("tiny")
model.eval()
with torch.no_grad():
    for tensor in model.parameters():
        tensor.copy_((tensor + torch.randn_like(tensor) * 0.1).half().float())
save_file({name: t.half() for name, t in model.state_dict().items()}, HERE / "tiny.safetensors")

coarse = np.random.default_rng(0).integers(0, 256, (3, 4, 5, 3)).astype(np.uint8)
pictures = [Image.fromarray(picture).resize((70, 50), Image.BICUBIC) for picture in coarse]
tokens = SimpleTokenizer(HERE / "bpe.txt.gz", context_length=20)(PHRASES)
with torch.no_grad():
    image = model.encode_image(torch.stack([prepare(p) for p in pictures]), normalize=True)
    text = model.encode_text(tokens, normalize=True)
np.savez_compressed(
    HERE / "answers.npz",
    pictures=np.stack([np.asarray(picture) for picture in pictures]),
    image=image.numpy(),
    text=text.numpy(),
    phrases=PHRASES,
)
