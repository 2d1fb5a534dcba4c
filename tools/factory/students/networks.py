"""The backbones a recipe can name.

MobileNetV2 (mobilenet.py), EfficientNet-Lite (efficientnet_lite.py), EfficientNet-B3 (Tan & Le 2019),
MobileNetV4-conv-small (Qin et al. 2024, table 11)."""

from __future__ import annotations

import math
from collections.abc import Callable

from torch import nn

from tools.factory.students.efficientnet_lite import FEATURES as LITE_FEATURES
from tools.factory.students.efficientnet_lite import lite_layers, round_channels
from tools.factory.students.layers import Backbone, ConvNorm, Residual, SqueezeExcite
from tools.factory.students.mobilenet import FEATURES, MobileNetV2


def _efficientnet(width: float, depth: float) -> Backbone:
    activation = nn.SiLU
    stem, top = round_channels(32 * width), round_channels(1280 * width)
    layers: list[nn.Module] = [ConvNorm(3, stem, 3, 2, 1, activation, ("conv_stem", "bn1"))]
    inputs = stem
    plan = ((1, 16, 1, 1, 3), (6, 24, 2, 2, 3), (6, 40, 2, 2, 5), (6, 80, 3, 2, 3), (6, 112, 3, 1, 5))
    plan += ((6, 192, 4, 2, 5), (6, 320, 1, 1, 3))
    for stage, (expansion, width_out, repeats, first_stride, kernel) in enumerate(plan):
        for block in range(math.ceil(repeats * depth)):
            stride, outputs = (first_stride if block == 0 else 1), round_channels(width_out * width)
            hidden, name = inputs * expansion, f"blocks.{stage}.{block}"
            parts: list[nn.Module] = []
            if expansion != 1:
                parts.append(ConvNorm(inputs, hidden, 1, 1, 1, activation, (f"{name}.conv_pw", f"{name}.bn1")))
            norms = ("bn1", "bn2") if expansion == 1 else ("bn2", "bn3")
            depthwise = (f"{name}.conv_dw", f"{name}.{norms[0]}")
            parts.append(ConvNorm(hidden, hidden, kernel, stride, hidden, activation, depthwise))
            parts.append(SqueezeExcite(hidden, max(1, inputs // 4), f"{name}.se"))
            last = "conv_pw" if expansion == 1 else "conv_pwl"
            parts.append(ConvNorm(hidden, outputs, 1, 1, 1, None, (f"{name}.{last}", f"{name}.{norms[1]}")))
            layers.append(Residual(*parts, skip=stride == 1 and inputs == outputs))
            inputs = outputs
    layers.append(ConvNorm(inputs, top, 1, 1, 1, activation, ("conv_head", "bn2")))
    return Backbone(layers, top)


# Universal inverted bottlenecks of MobileNetV4-conv-small by stage: (kernel of the depthwise convolution before the
# expansion, of the one after it (0: none), stride, expansion, output channels).
_UIB = (
    ((5, 5, 2, 3, 96), *((0, 3, 1, 2, 96),) * 4, (3, 0, 1, 4, 96)),
    ((3, 3, 2, 6, 128), (5, 5, 1, 4, 128), (0, 5, 1, 4, 128), (0, 5, 1, 3, 128), *((0, 3, 1, 4, 128),) * 2),
)


def _mobilenetv4_conv_small() -> Backbone:
    act = nn.ReLU
    layers: list[nn.Module] = [ConvNorm(3, 32, 3, 2, 1, act, ("conv_stem", "bn1"))]
    inputs = 32
    for stage, shapes in enumerate((((3, 2, 32), (1, 1, 32)), ((3, 2, 96), (1, 1, 64)))):
        for block, (kernel, stride, outputs) in enumerate(shapes):
            name = f"blocks.{stage}.{block}"
            layers.append(ConvNorm(inputs, outputs, kernel, stride, 1, act, (f"{name}.conv", f"{name}.bn1")))
            inputs = outputs
    for stage, blocks in enumerate(_UIB, start=2):
        for block, (start, middle, stride, expansion, outputs) in enumerate(blocks):
            name, hidden = f"blocks.{stage}.{block}", _round8(inputs * expansion)
            parts: list[nn.Module] = []

            def add(part: str, a: int, b: int, k: int, s: int, groups: int, f: Callable[[], nn.Module] | None) -> None:
                parts.append(ConvNorm(a, b, k, s, groups, f, (f"{name}.{part}.conv", f"{name}.{part}.bn")))  # noqa: B023

            if start:
                add("dw_start", inputs, inputs, start, 1 if middle else stride, inputs, None)
            add("pw_exp", inputs, hidden, 1, 1, 1, act)
            if middle:
                add("dw_mid", hidden, hidden, middle, stride, hidden, act)
            add("pw_proj", hidden, outputs, 1, 1, 1, None)
            layers.append(Residual(*parts, skip=stride == 1 and inputs == outputs))
            inputs = outputs
    layers.append(ConvNorm(inputs, 960, 1, 1, 1, act, ("blocks.4.0.conv", "blocks.4.0.bn1")))
    tail = ConvNorm(960, 1280, 1, 1, 1, act, ("conv_head", "norm_head"))
    return Backbone(layers, 1280, tail)


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
