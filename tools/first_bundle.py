"""Make the first bundle: a frozen MobileNetV2 and a linear head, fitted in minutes.

    python -m tools.first_bundle --out models/edge-clip

It is the floor that every distilled bundle has to beat: the network is the ImageNet one as published, only the
1280 -> 512 head is fitted (to ImageNet posteriors, and to the names of the folders that have one). int8 throughout.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import tempfile
import zipfile
from pathlib import Path

import cv2
import numpy as np
import onnx
import onnxruntime
import torch
import torch.nn.functional as F
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process
from torch import Tensor, nn
from tqdm import tqdm

from edge_runtime.errors import EdgeLabelError, NoInputError
from edge_runtime.files import write_atomically
from edge_runtime.model.bundle import InputSpec
from edge_runtime.model.preprocess import Preprocessor
from tools.factory.mobilenet import TFSLIM, MobileNetV2, load_mobilenet
from tools.factory.sentence_map import SentenceMap, load_text_rows, unique_rows
from tools.factory.teachers import CLIP_B32
from tools.factory.zero_shot import imagenet_classifier, imagenet_names, load_classifier_head
from tools.prompts import RECIPES, TEMPLATES, offline_bank, wanted_phrases

SIZE = 192
SCALE = 60.0  # of the cosines while fitting
NAMED_FOLDERS = ("places128", "roads_google_flickr")


class Encoder(nn.Module):
    """uint8 RGB (N, 192, 192, 3) -> unit embeddings (N, 512); normalisation is part of it."""

    def __init__(self, net: MobileNetV2, head: nn.Module) -> None:
        super().__init__()
        self.net, self.head = net, head

    def forward(self, pixels: Tensor) -> Tensor:
        """(N, 192, 192, 3) uint8 -> (N, 512) float32, unit norm."""
        x = pixels.permute(0, 3, 1, 2).float() / 127.5 - 1
        return F.normalize(self.head(self.net(x)), dim=1)


def read_pictures(archive: Path) -> tuple[list[str], np.ndarray]:
    """Every colour picture of the zip: (paths inside it, uint8 RGB (N, 192, 192, 3))."""
    if not archive.is_file():
        raise NoInputError(f"{archive}: missing; give the distillation pictures with --data")
    preprocess = Preprocessor(InputSpec("pixels", "NHWC", (SIZE, SIZE), "squash", ("rgb",)))
    with zipfile.ZipFile(archive) as source:
        names = sorted(
            n
            for n in source.namelist()
            if n.endswith((".webp", ".jpg", ".jpeg", ".png", ".bmp")) and "depth_mm16" not in n and "/ir/" not in n
        )
        # Every fourth picture fits a linear head as well as all of them do.
        names = names[::4]
        pictures = np.empty((len(names), SIZE, SIZE, 3), np.uint8)
        for i, name in enumerate(tqdm(names, "reading", unit="picture")):
            pixels = cv2.imdecode(np.frombuffer(source.read(name), np.uint8), cv2.IMREAD_COLOR)
            pictures[i] = preprocess(pixels)[0]
    return names, pictures


def folder_phrase(name: str) -> str | None:
    """What a picture's folder or file prefix says it shows, or None: ".../places128/gas_station/x" -> "gas station"."""
    parts = name.split("/")
    for folder in NAMED_FOLDERS:
        if folder in parts:
            below = parts[parts.index(folder) + 1]
            return below.split("__")[0].replace("_", " ").removesuffix("s" if "roads" in below else "")
    return None


def export(encoder: Encoder, path: Path) -> None:
    """Write the encoder as float32 ONNX with a free batch."""
    torch.onnx.export(
        encoder.eval(),
        (torch.zeros(1, SIZE, SIZE, 3, dtype=torch.uint8),),
        str(path),
        input_names=["pixels"],
        output_names=["embedding"],
        dynamic_axes={"pixels": {0: "n"}, "embedding": {0: "n"}},
        opset_version=17,
        dynamo=False,
    )


def run(model: Path | bytes, pictures: np.ndarray, what: str, batch: int = 32) -> np.ndarray:
    """The ONNX model's output for every picture, float32."""
    session = onnxruntime.InferenceSession(model if isinstance(model, bytes) else str(model))
    steps = tqdm(range(0, len(pictures), batch), what, unit="batch")
    return np.concatenate([session.run(None, {"pixels": pictures[i : i + batch]})[0] for i in steps])


def fit_head(features: Tensor, logits: Tensor, phrases: list[str | None], weights: Path) -> nn.Module:
    """The closed-form head, then two passes of cross entropy to posteriors over names and to folder names."""
    names = torch.from_numpy(imagenet_names(load_text_rows(weights)))
    head = load_classifier_head(weights / "mobilenetv2_1.0_imagenet_tfslim.npz").direct
    known = sorted({p for p in phrases if p})
    rows = unique_rows(load_text_rows(weights))
    text_map = SentenceMap(load_text_rows(weights))
    texts = torch.from_numpy(np.stack([rows[p] if p in rows else text_map([p])[0] for p in known]))
    wanted = torch.tensor([known.index(p) if p else -1 for p in phrases])
    optimiser = torch.optim.AdamW(head.parameters(), 2e-4, weight_decay=0.01)
    torch.manual_seed(0)
    for _ in range(2):
        for rows_ in tqdm(torch.randperm(len(features)).split(256), "fitting", unit="batch"):
            embedding = F.normalize(head(features[rows_]), dim=1)
            loss = F.cross_entropy(SCALE * embedding @ names.T, logits[rows_].softmax(1))
            if (wanted[rows_] >= 0).any():
                loss = loss + 0.5 * F.cross_entropy(SCALE * embedding @ texts.T, wanted[rows_], ignore_index=-1)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
    return head


class _Reader(CalibrationDataReader):
    def __init__(self, pictures: np.ndarray) -> None:
        self._rows = iter(pictures)

    def get_next(self) -> dict[str, np.ndarray] | None:
        picture = next(self._rows, None)
        return None if picture is None else {"pixels": picture[None]}


def to_int8(model: Path, pictures: np.ndarray) -> bytes:
    """Static int8, QDQ: uint8 activations, int8 weights per channel; batch fixed to 1; carries the text space."""
    with tempfile.TemporaryDirectory() as folder:
        ready, quantised = Path(folder) / "ready.onnx", Path(folder) / "int8.onnx"
        fixed = onnx.load(model)
        for port in (*fixed.graph.input, *fixed.graph.output):
            port.type.tensor_type.shape.dim[0].dim_value = 1
        onnx.save(fixed, ready)
        quant_pre_process(str(ready), str(ready), skip_symbolic_shape=True)
        quantize_static(
            str(ready),
            str(quantised),
            _Reader(pictures),
            quant_format=QuantFormat.QDQ,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            per_channel=True,
            op_types_to_quantize=["Conv", "Add", "GlobalAveragePool", "ReduceMean", "Gemm", "Clip"],
        )
        final = onnx.load(quantised)
    onnx.helper.set_model_props(final, {"edge_label.text_space": CLIP_B32})
    return final.SerializeToString()


CARD = """# edge-clip {version}

A frozen MobileNetV2 1.0 (ImageNet, 192 px) with a linear head into the text space of {space}. int8.
It is the first bundle, made by `python -m tools.first_bundle` in minutes, and it is **weak**: nothing but the head was
fitted, the teacher is an ImageNet classifier and not CLIP, and the text rows of road and weather words are approximate.
It knows the everyday objects of ImageNet and is poor at small, dark or blurred pictures and at weather.

Not for: anything where a wrong label can hurt somebody; people, faces or identities; medical or legal use.

- mean cosine between int8 and float32 on {held_out} pictures that were not used for calibration: {cosine:.4f}
- encoder: {size} bytes
"""


def main() -> int:
    """Command line; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.first_bundle", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=Path("models/edge-clip"))
    parser.add_argument("--data", type=Path, default=Path("../shared/data/distill.zip"))
    parser.add_argument("--weights", type=Path, default=Path("../shared/weights"))
    options = parser.parse_args()
    try:
        make(options.out, options.data, options.weights)
    except EdgeLabelError as error:
        parser.exit(error.exit_code, f"tools.first_bundle: {error}\n")
    return 0


def make(out: Path, data: Path, weights: Path) -> None:
    """Read, fit, quantise, write."""
    names, pictures = read_pictures(data)
    checkpoint = weights / "mobilenetv2_1.0_imagenet_tfslim.npz"
    net, classifier = load_mobilenet(checkpoint, TFSLIM).eval(), imagenet_classifier(checkpoint)
    with tempfile.TemporaryDirectory() as folder:
        model = Path(folder) / "model.onnx"
        bare = Encoder(net, nn.Identity())
        bare.forward = lambda x: net(x.permute(0, 3, 1, 2).float() / 127.5 - 1)  # type: ignore[method-assign]
        export(bare, model)
        features = torch.from_numpy(run(model, pictures, "features"))
        with torch.no_grad():
            logits = classifier(features)
        head = fit_head(features, logits, [folder_phrase(n) for n in names], weights)
        export(Encoder(net, head), model)
        shuffled = np.random.default_rng(0).permutation(len(pictures))
        encoder = to_int8(model, pictures[shuffled[:200]])
        check = pictures[shuffled[200:500]]
        cosine = float((run(model, check, "float32", 1) * _unit(run(encoder, check, "int8", 1))).sum(1).mean())
    files = {"encoder.onnx": encoder}
    label_sets = sorted((RECIPES / "labels").glob("*.yaml"))
    files |= offline_bank(wanted_phrases(label_sets, [RECIPES / "phrases.txt"]), weights).files()
    files |= {f"labels/{path.name}": path.read_bytes() for path in label_sets}
    manifest = {
        "schema": "edge-label-bundle/1",
        "name": "edge-clip",
        "version": "0.1.0",
        "files": {n: {"sha256": hashlib.sha256(b).hexdigest(), "size": len(b)} for n, b in sorted(files.items())},
        "input": {
            "name": "pixels",
            "layout": "NHWC",
            "dtype": "uint8",
            "size": [SIZE, SIZE],
            "mean": list(TFSLIM.mean),
            "std": list(TFSLIM.std),
            "resize": "squash",
            "modalities": ["rgb"],
        },
        "embedding": {"name": "embedding", "dim": 512},
        "logit_scale": 100.0,
        "text_space": CLIP_B32,
        "templates": list(TEMPLATES),
        "int8": {
            "activations": "QUInt8",
            "weights": "QInt8 per channel",
            "format": "QDQ",
            "calibration": "min-max, 200 pictures",
        },
        "teacher": "ImageNet classifier posterior and folder names (no CLIP picture tower)",
        "student": "MobileNetV2 1.0, frozen, linear head",
        "data": ["distill.zip"],
        "licences": ["MobileNetV2 weights: Apache-2.0", "CLIP text rows: MIT, Apache-2.0"],
        "evaluation": {},
        "a72": {},
        "minimum_runtime": "0.1.0",
    }
    card = CARD.format(version="0.1.0", space=CLIP_B32, held_out=len(check), cosine=cosine, size=len(encoder))
    files |= {"MODEL_CARD.md": card.encode(), "manifest.json": (json.dumps(manifest, indent=1) + "\n").encode()}
    for name, content in files.items():
        write_atomically(out / name, content)
    print(f"{out}: encoder {len(encoder)} bytes, mean cosine int8 to float32 {cosine:.4f}")


def _unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


if __name__ == "__main__":
    raise SystemExit(main())
