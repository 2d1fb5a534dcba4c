"""The default bundle beside other encoders: modelled time, memory and size, one machine, one run.

    python -m tools.a72.compare                  # measure what is missing (half an hour)
    python -m tools.a72.compare --only tinyclip  # measure again those with this in their name
    python -m tools.a72.compare --table          # print the saved results as Markdown

Results are saved in comparison.json after each encoder, so a run can be stopped and continued. The
default bundle's own row is saved with its other figures, by `tools.a72.keep --write`. All others
have random weights, which is enough to compare speed and memory. Accuracies are those that their
authors publish. Needs the [train] extra and the arm64 userland.
"""

from __future__ import annotations

import argparse
import io
import json
import sys
import warnings
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tools.a72 import keep
from tools.a72.cycles import CycleTable
from tools.a72.encoder import EncoderRow, measure_encoder
from tools.a72.fit import CENTRAL, PESSIMISTIC, load_validation
from tools.a72.trace import BUILD
from tools.arm64.userland import DEFAULT_ROOT, Userland
from tools.lib import markdown
from tools.lib.command import run_verb, verb_parser

KEPT = Path(__file__).with_name("comparison.json")
CALIBRATION = 2  # pictures of noise: ranges hardly change the speed
KINDS = ("int8", "fp32")


@dataclass(frozen=True)
class Encoder:
    """One encoder: how to make it, and the accuracy that its authors publish."""

    name: str
    size: int
    make: Callable[[int], bytes]  # size -> float32 ONNX
    published: str = "-"
    ours: bool = False  # a student of tools.factory: quantised as we ship
    kinds: tuple[str, ...] = KINDS


def _student(name: str) -> Callable[[int], bytes]:
    def make(size: int) -> bytes:
        from tools.factory.int8.export import export_onnx
        from tools.factory.recipe import StudentRecipe
        from tools.factory.students.student import build_student

        return export_onnx(build_student(StudentRecipe(name), 512), size, "random")

    return make


def _tower(name: str) -> Callable[[int], bytes]:
    def make(size: int) -> bytes:
        import torch

        from tools.a72 import towers

        buffer = io.BytesIO()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model = getattr(towers, name)().eval()
            torch.onnx.export(
                model,
                (torch.zeros(1, 3, size, size),),
                buffer,
                input_names=["pixels"],
                output_names=["embedding"],
                opset_version=18,
                dynamo=False,
            )
        return buffer.getvalue()

    return make


B3 = "81.6 % ImageNet at 300 px, supervised (Tan & Le 2019)"
TINYCLIP = "41.1 % ImageNet zero-shot (Wu et al. 2023)"
MOBILECLIP = "67.8 % ImageNet zero-shot (Vasu et al. 2024)"
CLIP = "63.2 % ImageNet zero-shot (Radford 2021)"


def _our_student(name: str, size: int, kinds: tuple[str, ...] = KINDS) -> Encoder:
    return Encoder(f"student {name}", size, _student(name), ours=True, kinds=kinds)


ENCODERS = [
    _our_student("mobilenet_v2", 192),
    _our_student("efficientnet_lite0", 192),
    _our_student("mobilenetv4_conv_small", 192),
    # Smaller inputs, to choose one by; a student ships as int8, so float32 says nothing new.
    _our_student("efficientnet_lite0", 160, ("int8",)),
    _our_student("efficientnet_lite0", 176, ("int8",)),
    _our_student("mobilenet_v2", 160, ("int8",)),
    _our_student("mobilenet_v2", 176, ("int8",)),
    Encoder("EfficientNet-B3", 160, _student("efficientnet_b3"), B3, ours=True),
    Encoder("EfficientNet-B3", 224, _student("efficientnet_b3"), B3, ours=True),
    Encoder("EfficientNet-B3", 300, _student("efficientnet_b3"), B3, ours=True),
    Encoder("TinyCLIP-8M image tower", 224, _tower("tinyclip_8m"), TINYCLIP),
    Encoder("MobileCLIP-S0 image tower", 256, _tower("mobileclip_s0"), MOBILECLIP),
    Encoder("CLIP ViT-B/32 image tower", 224, _tower("clip_vit_b32"), CLIP),
]


def _int8(encoder: Encoder, fp32: bytes) -> bytes:
    """Static QDQ, activations QUInt8, weights QInt8 by channel, ranges from noise."""
    import numpy as np

    random = np.random.default_rng(0)
    if encoder.ours:
        from tools.factory.int8.quantise import quantise

        shape = (1, encoder.size, encoder.size, 3)
        pictures = [random.integers(0, 255, shape, np.uint8) for _ in range(CALIBRATION)]
        return quantise(fp32, pictures, "minmax")

    from onnxruntime.quantization import (
        CalibrationDataReader,
        QuantFormat,
        QuantType,
        quantize_static,
    )
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Noise(CalibrationDataReader):
        left = CALIBRATION

        def get_next(self) -> dict[str, Any] | None:
            if not self.left:
                return None
            self.left -= 1
            shape = (1, 3, encoder.size, encoder.size)
            return {"pixels": random.standard_normal(shape, np.float32)}

    source = BUILD / "compare/source.onnx"
    target = BUILD / "compare/target.onnx"
    source.write_bytes(fp32)
    quant_pre_process(source, source, skip_symbolic_shape=True)
    quantize_static(
        source,
        target,
        Noise(),
        quant_format=QuantFormat.QDQ,
        per_channel=True,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
    )
    return target.read_bytes()


def run(only: str | None) -> None:
    """Measure the encoders with `only` in their name, or without it those that are not saved
    yet."""
    kept = load() if KEPT.exists() else {}
    userland = Userland(DEFAULT_ROOT)
    table = CycleTable()
    folder = BUILD / "compare"
    folder.mkdir(parents=True, exist_ok=True)

    def is_due(key: str) -> bool:
        return only.lower() in key.lower() if only else key not in kept

    for encoder in ENCODERS:
        keys = {kind: f"{encoder.name} {encoder.size} {kind}" for kind in encoder.kinds}
        due = {kind: key for kind, key in keys.items() if is_due(key)}
        if not due:
            continue

        fp32 = encoder.make(encoder.size)
        for kind, key in due.items():
            model = folder / f"{kind}.onnx"
            model.write_bytes(_int8(encoder, fp32) if kind == "int8" else fp32)
            kept[key] = measure_encoder(model, userland, table)
            _save(kept)
            millions = kept[key].work.instructions / 1e6
            print(f"{key}: {millions:.0f} M instructions", file=sys.stderr, flush=True)


def _save(rows: dict[str, EncoderRow]) -> None:
    text = json.dumps({name: asdict(row) for name, row in rows.items()}, indent=1)
    KEPT.write_text(text + "\n")


def load() -> dict[str, EncoderRow]:
    """The rows that comparison.json holds, by name."""
    return {name: EncoderRow.from_dict(row) for name, row in json.loads(KEPT.read_text()).items()}


def as_markdown() -> str:
    """The table of docs/performance.md, fastest first."""
    figures = keep.load_kept()
    coefficients = load_validation().coefficients
    published = {
        f"{encoder.name} {encoder.size} {kind}": encoder.published
        for encoder in ENCODERS
        for kind in encoder.kinds
    }
    rows = {**load(), f"{figures.bundle} (default bundle) int8": figures.encoder}
    ours = coefficients.ms(figures.encoder.work, 4)
    head = (
        "encoder alone",
        "M instructions",
        "ms, 1 thread",
        "ms, 4 threads",
        "ms, 4 threads, pessimistic",
        "ratio to ours",
        "RSS, MB",
        "file, MB",
        "published accuracy",
    )
    cells = []
    for key, row in sorted(rows.items(), key=lambda item: coefficients.ms(item[1].work, 4)):
        one = coefficients.ms(row.work)
        four = coefficients.ms(row.work, 4)
        cells.append(
            [
                key,
                f"{row.work.instructions / 1e6:.0f}",
                f"{CENTRAL * one:.1f}",
                f"{CENTRAL * four:.1f}",
                f"{PESSIMISTIC * four:.1f}",
                f"{four / ours:.1f}",
                f"{row.rss_mb:.0f}",
                f"{row.size_mb:.1f}",
                published.get(key, "-"),
            ]
        )
    text = markdown.table(head, cells, "lrrrrrrrl")

    missing = [key for key in published if key not in rows]
    if missing:
        names = ", ".join(missing)
        text += f"\n\nNot measured yet; `python -m tools.a72.compare` measures them: {names}."
    return text


def main(argv: list[str] | None = None) -> int:
    """Run the comparison; returns the exit code."""
    parser = verb_parser("tools.a72.compare", __doc__, whole=True)
    add = parser.add_argument
    add("--only", metavar="TEXT", help="measure again the encoders with this in their name")
    add("--table", action="store_true", help="measure nothing, print the saved results")
    return run_verb(parser, _compare, argv, failures={RuntimeError: 69})


def _compare(args: argparse.Namespace) -> str:
    if not args.table:
        run(args.only)
    return as_markdown()


if __name__ == "__main__":
    sys.exit(main())
