"""A student: uint8-range RGB in, unit embedding out.

Pixels enter as (x - 114) / 57, with one offset and one scale for all channels. What a checkpoint
expects by channel is folded into its first convolution here. So the int8 graph reads uint8 pixels
with zero point 114 without any arithmetic, and zero padding stays exactly zero.
"""

from __future__ import annotations

import difflib
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from edge_runtime.errors import DataError, UsageError
from tools.factory.recipe import StudentRecipe
from tools.factory.students.bundle_start import BUNDLE, fill_from_bundle
from tools.factory.students.efficientnet_lite import LITE, fill_lite
from tools.factory.students.heads import ClassifierHead, CorrectedHead, ProjectionHead
from tools.factory.students.layers import NORM_MOMENTUM, Backbone, ConvNorm, SqueezeExcite
from tools.factory.students.mobilenet import (
    FEATURES,
    TFSLIM,
    TORCHVISION,
    Conv,
    MobileNetV2,
    load_mobilenet,
)
from tools.factory.students.networks import STUDENTS
from tools.factory.students.weights import read_state
from tools.factory.students.zero_shot import IMAGENET_CLASSES, load_classifier_head

PIXEL_OFFSET = 114.0  # about the mean of ImageNet's channels: 124, 116, 104
PIXEL_SCALE = 57.0  # about their standard deviations: 58, 57, 57


class Student(nn.Module):
    """An image encoder: RGB values 0 ... 255 (B, 3, H, W) -> unit embeddings (B, dim).

    The first `frozen` layers of the backbone get no gradient and keep their BatchNorm statistics.
    """

    def __init__(self, backbone: Backbone, head: nn.Module, frozen: int = 0) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = head
        self.freeze(frozen)

    def freeze(self, count: int) -> None:
        """Train only what follows the first `count` layers of the backbone.

        Raises UsageError when the backbone has fewer layers.
        """
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

        With `after` > 0, `x` is what `stem` returned when that many layers were frozen.
        """
        start = after or self.backbone.frozen
        activations = x if after else self.stem(x)
        features = self.backbone.rest(activations, start)
        return F.normalize(self.head(features).float(), dim=1)

    def stem(self, pixels: Tensor) -> Tensor:
        """(B, 3, H, W) RGB values 0 ... 255 -> activations after the frozen layers."""
        return self.backbone.stem((pixels - PIXEL_OFFSET) / PIXEL_SCALE)


def to_pixels(pictures: NDArray[np.uint8], device: torch.device) -> Tensor:
    """(B, H, W, 3) uint8 -> (B, 3, H, W) float32 in channels-last memory, values 0 ... 255."""
    return torch.from_numpy(pictures).to(device, non_blocking=True).permute(0, 3, 1, 2).float()


def build_student(recipe: StudentRecipe, dim: int, *, load: bool = True) -> Student:
    """The student of a recipe.

    load: read its pretrained weights; False where a checkpoint is about to replace them.
    Raises UsageError (with the list of students) for an unknown name, NoInputError and DataError
    for weights that are missing or do not fit.
    """
    if recipe.name not in STUDENTS:
        near = difflib.get_close_matches(recipe.name, STUDENTS, n=1)
        hint = f"did you mean '{near[0]}'? " if near else ""
        raise UsageError(
            f"unknown student '{recipe.name}'", f"{hint}There are: {', '.join(STUDENTS)}"
        )

    if recipe.pretrained.startswith(BUNDLE):
        student = _from_bundle(recipe, dim, load=load)
    else:
        backbone = _backbone(recipe, load=load)
        student = Student(backbone, _head(recipe, backbone, dim, load=load), recipe.frozen)
    if recipe.head.correction:
        student.head = CorrectedHead(student.head, dim)
    return student


def _backbone(recipe: StudentRecipe, *, load: bool) -> Backbone:
    if recipe.name == "mobilenet_v2" and recipe.pretrained.endswith(".npz"):
        return _mobilenet_from_npz(recipe, load=load)

    backbone = STUDENTS[recipe.name]()
    if not recipe.pretrained:
        convolutions = [module for module in backbone.modules() if isinstance(module, Conv)]
        _start_from_scratch(convolutions)
    elif load:
        _load_pretrained(recipe, backbone)
    return backbone


def _from_bundle(recipe: StudentRecipe, dim: int, *, load: bool) -> Student:
    """Backbone and head of a bundle's encoder: its BatchNorm is folded away."""
    backbone = STUDENTS[recipe.name]()
    student = Student(backbone, _head(recipe, backbone, dim, load=False), recipe.frozen)
    if load:
        fill_from_bundle(student, recipe.pretrained, PIXEL_SCALE)
    return student


def _mobilenet_from_npz(recipe: StudentRecipe, *, load: bool) -> Backbone:
    """The two exports of MobileNetV2 differ in padding and in what they expect of pixels."""
    flavours = {flavour.name: flavour for flavour in (TORCHVISION, TFSLIM)}
    flavour = flavours[recipe.flavour]
    net = load_mobilenet(recipe.pretrained, flavour) if load else MobileNetV2(flavour)
    backbone = Backbone(list(net.layers), FEATURES)
    fold_normalisation(backbone, flavour.mean, flavour.std)
    return backbone


def _load_pretrained(recipe: StudentRecipe, backbone: Backbone) -> None:
    if recipe.name == "efficientnet_lite0":
        fill_lite(list(backbone.layers), read_state(recipe.pretrained), recipe.pretrained)
        fold_normalisation(backbone, LITE.mean, LITE.std)
    else:
        load_backbone(backbone, recipe.pretrained)
        fold_normalisation(backbone, TORCHVISION.mean, TORCHVISION.std)


def _head(recipe: StudentRecipe, backbone: Backbone, dim: int, *, load: bool) -> nn.Module:
    if recipe.head.kind == "mlp":
        return ProjectionHead(backbone.width, dim, recipe.head)
    if load:
        head = load_classifier_head(recipe.pretrained, Path(recipe.head.texts))
    else:
        classifier = nn.Linear(backbone.width, IMAGENET_CLASSES)
        direct = nn.Linear(backbone.width, dim)
        head = ClassifierHead(classifier, torch.zeros(IMAGENET_CLASSES, dim), direct)

    features = head.classify.in_features
    text_dim = head.names.out_features
    if (features, text_dim) != (backbone.width, dim):
        raise UsageError(
            f"student.head.kind classifier: made for {features} features and a text space of "
            f"{text_dim}, not {backbone.width} and {dim}",
            "use the offline teacher and one of its networks, or kind: mlp",
        )
    if recipe.head.rank:
        head.factor(recipe.head.rank)
    return head


def _start_from_scratch(convolutions: list[Conv]) -> None:
    """Give a network without weights BatchNorm layers, and a scale of weights at which signals
    neither vanish nor explode over 50 layers (He et al. 2015)."""
    for layer in convolutions:
        nn.init.kaiming_normal_(layer.conv.weight, mode="fan_out")
        nn.init.zeros_(layer.conv.bias)
        layer.norm = nn.BatchNorm2d(layer.conv.out_channels, momentum=NORM_MOMENTUM)


@torch.no_grad()
def fold_normalisation(backbone: Backbone, mean: tuple[float, ...], std: tuple[float, ...]) -> None:
    """Make a backbone trained on (x / 255 - mean) / std take (x - 114) / 57, in place.

    With u = (x - 114) / 57, the old input is scale * u + shift: the scale goes into the weights,
    the shift into the bias, or into the BatchNorm that follows. Exact except at the padded border,
    which now shows grey 114 instead of the mean colour.
    """
    conv, norm = backbone.first()
    mean_ = torch.tensor(mean)
    std_ = torch.tensor(std)
    scale = PIXEL_SCALE / 255 / std_
    shift = (PIXEL_OFFSET / 255 - mean_) / std_

    # First, because it needs the weights as they were.
    constant = (conv.weight * shift[:, None, None]).sum((1, 2, 3))
    conv.weight.mul_(scale[:, None, None])
    if conv.bias is not None:
        conv.bias.add_(constant)
    elif norm is not None and norm.running_mean is not None:
        norm.running_mean.sub_(constant)


def load_backbone(backbone: Backbone, source: str) -> None:
    """Fill a backbone from weights with timm's names.

    Raises DataError when a tensor is missing or has the wrong shape.
    """
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
    tensor = state.get(name)
    if tensor is None or tensor.shape != target.shape:
        shape = "missing" if tensor is None else f"of shape {tuple(tensor.shape)}"
        raise DataError(
            f"{source}: {name} is {shape}, should be {tuple(target.shape)}",
            "give timm's weights of this network",
        )
    target.copy_(tensor)
