"""The backbones a recipe can name.

MobileNetV2 (mobilenet.py), EfficientNet-Lite (efficientnet_lite.py), EfficientNet-B3 (Tan & Le
2019), MobileNetV4-conv-small (Qin et al. 2024, table 11). The last two name their layers as timm's
checkpoints do.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from torch import nn

from tools.factory.students.efficientnet_lite import FEATURES as LITE_FEATURES
from tools.factory.students.efficientnet_lite import STAGES, lite_layers, round_channels
from tools.factory.students.layers import Backbone, ConvNorm, Residual, SqueezeExcite
from tools.factory.students.mobilenet import FEATURES, MobileNetV2


def _efficientnet(width: float, depth: float) -> Backbone:
    stem = round_channels(32 * width)
    top = round_channels(1280 * width)
    layers: list[nn.Module] = [ConvNorm(3, stem, 3, 2, 1, nn.SiLU, ("conv_stem", "bn1"))]
    inputs = stem

    for stage, (expansion, channels, repeats, first_stride, kernel) in enumerate(STAGES):
        outputs = round_channels(channels * width)
        for block in range(math.ceil(repeats * depth)):
            stride = first_stride if block == 0 else 1
            name = f"blocks.{stage}.{block}"
            layers.append(_mbconv(name, inputs, outputs, stride, expansion, kernel))
            inputs = outputs

    layers.append(ConvNorm(inputs, top, 1, 1, 1, nn.SiLU, ("conv_head", "bn2")))
    return Backbone(layers, top)


def _mbconv(
    name: str, inputs: int, outputs: int, stride: int, expansion: int, kernel: int
) -> Residual:
    """Expand (unless `expansion` is 1), depthwise, squeeze and excite, project."""
    hidden = inputs * expansion
    parts: list[nn.Module] = []
    if expansion == 1:
        # timm counts a block's layers, so a block without expansion names them differently.
        depthwise = (f"{name}.conv_dw", f"{name}.bn1")
        project = (f"{name}.conv_pw", f"{name}.bn2")
    else:
        expand = (f"{name}.conv_pw", f"{name}.bn1")
        depthwise = (f"{name}.conv_dw", f"{name}.bn2")
        project = (f"{name}.conv_pwl", f"{name}.bn3")
        parts.append(ConvNorm(inputs, hidden, 1, 1, 1, nn.SiLU, expand))

    parts.append(ConvNorm(hidden, hidden, kernel, stride, hidden, nn.SiLU, depthwise))
    # A quarter of the block's inputs, not of its hidden channels: as in the authors' code.
    parts.append(SqueezeExcite(hidden, max(1, inputs // 4), f"{name}.se"))
    parts.append(ConvNorm(hidden, outputs, 1, 1, 1, None, project))
    return Residual(*parts, skip=stride == 1 and inputs == outputs)


# Universal inverted bottlenecks of MobileNetV4-conv-small by stage: (kernel of the depthwise
# convolution before the expansion, of the one after it (0: none), stride, expansion, channels).
_UIB = (
    ((5, 5, 2, 3, 96), *((0, 3, 1, 2, 96),) * 4, (3, 0, 1, 4, 96)),
    (
        (3, 3, 2, 6, 128),
        (5, 5, 1, 4, 128),
        (0, 5, 1, 4, 128),
        (0, 5, 1, 3, 128),
        *((0, 3, 1, 4, 128),) * 2,
    ),
)


def _mobilenetv4_conv_small() -> Backbone:
    act = nn.ReLU
    layers: list[nn.Module] = [ConvNorm(3, 32, 3, 2, 1, act, ("conv_stem", "bn1"))]
    inputs = 32

    for stage, shapes in enumerate((((3, 2, 32), (1, 1, 32)), ((3, 2, 96), (1, 1, 64)))):
        for block, (kernel, stride, outputs) in enumerate(shapes):
            name = f"blocks.{stage}.{block}"
            names = (f"{name}.conv", f"{name}.bn1")
            layers.append(ConvNorm(inputs, outputs, kernel, stride, 1, act, names))
            inputs = outputs

    for stage, blocks in enumerate(_UIB, start=2):
        for block, shape in enumerate(blocks):
            layers.append(_universal_bottleneck(f"blocks.{stage}.{block}", inputs, shape))
            inputs = shape[-1]

    layers.append(ConvNorm(inputs, 960, 1, 1, 1, act, ("blocks.4.0.conv", "blocks.4.0.bn1")))
    tail = ConvNorm(960, 1280, 1, 1, 1, act, ("conv_head", "norm_head"))
    return Backbone(layers, 1280, tail)


def _universal_bottleneck(
    name: str, inputs: int, shape: tuple[int, int, int, int, int]
) -> Residual:
    """Depthwise, expand, depthwise, project; a kernel of 0 omits its depthwise convolution."""
    start, middle, stride, expansion, outputs = shape
    hidden = _round8(inputs * expansion)
    act = nn.ReLU

    def names(part: str) -> tuple[str, str]:
        return f"{name}.{part}.conv", f"{name}.{part}.bn"

    parts = []
    if start:
        # The stride is taken once, by the depthwise convolution that comes last.
        own_stride = 1 if middle else stride
        parts.append(ConvNorm(inputs, inputs, start, own_stride, inputs, None, names("dw_start")))
    parts.append(ConvNorm(inputs, hidden, 1, 1, 1, act, names("pw_exp")))
    if middle:
        parts.append(ConvNorm(hidden, hidden, middle, stride, hidden, act, names("dw_mid")))
    parts.append(ConvNorm(hidden, outputs, 1, 1, 1, None, names("pw_proj")))
    return Residual(*parts, skip=stride == 1 and inputs == outputs)


def _round8(n: int) -> int:
    return (n + 7) // 8 * 8


def _mobilenet_v2() -> Backbone:
    net = MobileNetV2()
    return Backbone(list(net.layers), FEATURES)


STUDENTS: dict[str, Callable[[], Backbone]] = {
    "mobilenet_v2": _mobilenet_v2,
    "mobilenetv4_conv_small": _mobilenetv4_conv_small,
    "efficientnet_lite0": lambda: Backbone(lite_layers("efficientnet_lite0"), LITE_FEATURES),
    "efficientnet_b3": lambda: _efficientnet(1.2, 1.4),
}
