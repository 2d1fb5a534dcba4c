"""Students: small image encoders, uint8-range RGB in, unit embedding out.

Every backbone is a `layers` sequence (its first ones can be frozen), a mean over the picture, and a `tail`.
Pixels enter as (x - 114) / 57, one offset and one scale for all channels: what a checkpoint expects by channel is
folded into its first convolution here, so that a uint8 picture with zero point 114 needs no arithmetic at all in
the int8 graph and zero padding stays exactly zero.

Architectures: MobileNetV2 (mobilenet.py), EfficientNet-Lite0 (efficientnet_lite.py), EfficientNet-B3 (Tan & Le
2019), MobileNetV4-conv-small (Qin et al. 2024, table 11).
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from edge_runtime.errors import DataError, UsageError
from tools.factory.efficientnet_lite import FEATURES as LITE_FEATURES
from tools.factory.efficientnet_lite import LITE, fill_lite, lite_layers, round_channels
from tools.factory.heads import ClassifierHead, ProjectionHead
from tools.factory.mobilenet import FEATURES, TFSLIM, TORCHVISION, Conv, MobileNetV2, load_mobilenet
from tools.factory.recipe import StudentRecipe
from tools.factory.weights import read_state
from tools.factory.zero_shot import IMAGENET_CLASSES, load_classifier_head

PIXEL_OFFSET, PIXEL_SCALE = 114.0, 57.0


class ConvNorm(nn.Module):
    """Convolution without bias, BatchNorm, optional activation. `names` are its two names in timm checkpoints."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: int,
        stride: int = 1,
        groups: int = 1,
        activation: Callable[[], nn.Module] | None = None,
        names: tuple[str, str] = ("", ""),
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False)
        self.bn = nn.BatchNorm2d(outputs, momentum=0.03)
        self.act = activation() if activation else nn.Identity()
        self.names = names

    def forward(self, x: Tensor) -> Tensor:
        """(B, inputs, H, W) -> (B, outputs, ceil(H / stride), ceil(W / stride))."""
        return self.act(self.bn(self.conv(x)))


class SqueezeExcite(nn.Module):
    """Channels weighted by a sigmoid of their global mean (Hu et al. 2018)."""

    def __init__(self, channels: int, squeezed: int, name: str) -> None:
        super().__init__()
        self.reduce, self.expand = nn.Conv2d(channels, squeezed, 1), nn.Conv2d(squeezed, channels, 1)
        self.name = name

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, H, W)."""
        return x * torch.sigmoid(self.expand(F.silu(self.reduce(F.adaptive_avg_pool2d(x, 1)))))


class Residual(nn.Sequential):
    """Layers in a row; the input is added where `skip`."""

    def __init__(self, *layers: nn.Module, skip: bool) -> None:
        super().__init__(*layers)
        self.skip = skip

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C', H', W')."""
        y = super().forward(x)
        return x + y if self.skip else y


class Backbone(nn.Module):
    """Layers, mean over the picture, tail: (B, 3, H, W) -> (B, width)."""

    layers: nn.Sequential
    width: int

    def __init__(self, layers: list[nn.Module], width: int, tail: nn.Module | None = None) -> None:
        super().__init__()
        self.layers, self.width, self.tail = nn.Sequential(*layers), width, tail or nn.Identity()
        self.frozen = 0

    def forward(self, x: Tensor) -> Tensor:
        """(B, 3, H, W) as (x - 114) / 57 -> (B, width); the first `frozen` layers take no gradient."""
        return self.rest(self.stem(x), self.frozen)

    def stem(self, x: Tensor) -> Tensor:
        """The frozen layers alone, without a gradient: (B, 3, H, W) -> (B, C, h, w)."""
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.frozen):
            for layer in self.layers[: self.frozen]:
                x = layer(x)
        return x

    def rest(self, x: Tensor, start: int) -> Tensor:
        """Layers from `start` on, the mean over the picture and the tail: (B, C, h, w) -> (B, width)."""
        for layer in self.layers[start:]:
            x = layer(x)
        return self.tail(F.adaptive_avg_pool2d(x, 1)).flatten(1)

    def first(self) -> tuple[nn.Conv2d, nn.BatchNorm2d | None]:
        """The first convolution and its BatchNorm, if it has one."""
        first = next(m for m in self.layers.modules() if isinstance(m, nn.Conv2d))
        norm = next((m for m in self.layers[0].modules() if isinstance(m, nn.BatchNorm2d)), None)
        return first, norm


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


class Student(nn.Module):
    """An image encoder: RGB values 0 ... 255 (B, 3, H, W) -> unit embeddings (B, dim).

    The first `frozen` layers of the backbone take no gradient and keep their BatchNorm statistics.
    """

    def __init__(self, backbone: Backbone, head: nn.Module, frozen: int = 0) -> None:
        super().__init__()
        self.backbone, self.head = backbone, head
        self.freeze(frozen)

    def freeze(self, count: int) -> None:
        """Train only what follows the first `count` layers of the backbone."""
        layers = self.backbone.layers
        if not 0 <= count <= len(layers):
            raise UsageError(f"student.frozen: {count}; this backbone has {len(layers)} layers")
        self.backbone.frozen = count
        for i, layer in enumerate(layers):
            layer.requires_grad_(i >= count)
        self.train(self.training)

    def train(self, mode: bool = True) -> Student:
        """As nn.Module.train, but frozen layers stay in evaluation mode."""
        super().train(mode)
        for layer in self.backbone.layers[: self.backbone.frozen]:
            layer.eval()
        return self

    def forward(self, x: Tensor, after: int = 0) -> Tensor:
        """(B, 3, H, W) RGB values 0 ... 255 -> (B, dim), unit norm, float32.

        With `after` > 0, `x` is what `stem` gave when that many layers were frozen.
        """
        features = self.backbone.rest(x, after) if after else self.backbone((x - PIXEL_OFFSET) / PIXEL_SCALE)
        return F.normalize(self.head(features).float(), dim=1)

    def stem(self, pixels: Tensor) -> Tensor:
        """(B, 3, H, W) RGB values 0 ... 255 -> activations after the frozen layers."""
        return self.backbone.stem((pixels - PIXEL_OFFSET) / PIXEL_SCALE)


def to_pixels(pictures: NDArray[np.uint8], device: torch.device) -> Tensor:
    """(B, H, W, 3) uint8 -> (B, 3, H, W) float32 in channels-last memory, values 0 ... 255."""
    return torch.from_numpy(pictures).to(device, non_blocking=True).permute(0, 3, 1, 2).float()


def build_student(recipe: StudentRecipe, dim: int, *, load: bool = True) -> Student:
    """The student of a recipe, its pretrained weights loaded (unless a checkpoint is about to replace them).

    Raises UsageError (with the list of students) for an unknown name, NoInputError and DataError for weights that
    are missing or do not fit.
    """
    if recipe.name not in STUDENTS:
        near = difflib.get_close_matches(recipe.name, STUDENTS, n=1)
        hint = f"did you mean '{near[0]}'? " if near else ""
        raise UsageError(f"unknown student '{recipe.name}'; {hint}There are: {', '.join(STUDENTS)}")
    if recipe.name == "mobilenet_v2" and recipe.pretrained.endswith(".npz"):
        flavour = {f.name: f for f in (TORCHVISION, TFSLIM)}[recipe.flavour]
        net = load_mobilenet(recipe.pretrained, flavour) if load else MobileNetV2(flavour)
        backbone = Backbone(list(net.layers), FEATURES)
        fold_normalisation(backbone, flavour.mean, flavour.std)
    else:
        backbone = STUDENTS[recipe.name]()
        folded = [m for m in backbone.modules() if isinstance(m, Conv)]
        if folded and not recipe.pretrained:
            _start_from_scratch(folded)
        if recipe.name == "efficientnet_lite0" and recipe.pretrained and load:
            fill_lite(list(backbone.layers), read_state(recipe.pretrained), recipe.pretrained)
            fold_normalisation(backbone, LITE.mean, LITE.std)
        elif recipe.pretrained and load:
            load_backbone(backbone, recipe.pretrained)
            fold_normalisation(backbone, TORCHVISION.mean, TORCHVISION.std)
    return Student(backbone, _head(recipe, backbone, dim, load=load), recipe.frozen)


def _head(recipe: StudentRecipe, backbone: Backbone, dim: int, *, load: bool) -> nn.Module:
    if recipe.head.kind == "mlp":
        return ProjectionHead(backbone.width, dim, recipe.head)
    if load:
        head = load_classifier_head(recipe.pretrained, Path(recipe.head.texts))
    else:
        classifier, direct = nn.Linear(backbone.width, IMAGENET_CLASSES), nn.Linear(backbone.width, dim)
        head = ClassifierHead(classifier, torch.zeros(IMAGENET_CLASSES, dim), direct)
    if (head.classify.in_features, head.names.out_features) != (backbone.width, dim):
        raise UsageError(
            f"student.head.kind classifier: made for {head.classify.in_features} features and a text space of "
            f"{head.names.out_features}, not {backbone.width} and {dim}; take the offline "
            "teacher and one of its networks, or kind: mlp"
        )
    if recipe.head.rank:
        head.factor(recipe.head.rank)
    return head


def _start_from_scratch(convolutions: list[Conv]) -> None:
    """Give a network without weights BatchNorm layers and a scale at which signals survive 50 layers."""
    for layer in convolutions:
        nn.init.kaiming_normal_(layer.conv.weight, mode="fan_out")
        nn.init.zeros_(layer.conv.bias)
        layer.norm = nn.BatchNorm2d(layer.conv.out_channels, momentum=0.03)


@torch.no_grad()
def fold_normalisation(backbone: Backbone, mean: tuple[float, ...], std: tuple[float, ...]) -> None:
    """Make a backbone trained on (x / 255 - mean) / std take (x - 114) / 57.

    Exact but for the padded border, which now shows grey 114 in place of the mean colour.
    """
    conv, norm = backbone.first()
    mean_, std_ = torch.tensor(mean), torch.tensor(std)
    scale = PIXEL_SCALE / 255 / std_
    shift = (PIXEL_OFFSET / 255 - mean_) / std_
    constant = (conv.weight * shift[:, None, None]).sum((1, 2, 3))
    conv.weight.mul_(scale[:, None, None])
    if conv.bias is not None:
        conv.bias.add_(constant)
    elif norm is not None and norm.running_mean is not None:
        norm.running_mean.sub_(constant)


def load_backbone(backbone: Backbone, source: str) -> None:
    """Fill a backbone from timm-named weights; DataError when a tensor is missing or misshapen."""
    state = read_state(source)
    for module in backbone.modules():
        if isinstance(module, ConvNorm):
            conv, norm = module.names
            _fill(module.conv.weight, state, f"{conv}.weight", source)
            for part in ("weight", "bias", "running_mean", "running_var"):
                _fill(getattr(module.bn, part), state, f"{norm}.{part}", source)
        elif isinstance(module, SqueezeExcite):
            for ours, theirs in ((module.reduce, "conv_reduce"), (module.expand, "conv_expand")):
                _fill(ours.weight, state, f"{module.name}.{theirs}.weight", source)
                _fill(ours.bias, state, f"{module.name}.{theirs}.bias", source)


@torch.no_grad()
def _fill(target: Tensor, state: dict[str, Tensor], name: str, source: str) -> None:
    got = state.get(name)
    if got is None or got.shape != target.shape:
        found = "missing" if got is None else f"of shape {tuple(got.shape)}"
        raise DataError(f"{source}: {name} is {found}, should be {tuple(target.shape)}; give timm weights of this net")
    target.copy_(got)
