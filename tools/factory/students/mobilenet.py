"""MobileNetV2 1.0 in plain torch, and its two ImageNet checkpoints.

Both checkpoints are 52 convolutions with BatchNorm already folded into weight and bias. They differ
in what they expect (`Flavour`): the torchvision one pads `kernel // 2` on every side and takes
ImageNet-normalised RGB; the TensorFlow-slim one pads as TensorFlow's "SAME" does, takes RGB in
-1 ... 1, and brings its 1001-way classifier.

`insert_batch_norm` puts BatchNorm layers back for training; they change nothing at first (their
statistics are measured). `fold_batch_norm` takes them out again before export.

Architecture: Sandler et al., "MobileNetV2: Inverted Residuals and Linear Bottlenecks", CVPR 2018,
table 2.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edge_runtime.errors import DataError, NoInputError

# Expansion, output channels, repeats, stride of the first repeat.
BLOCKS = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)
FEATURES = 1280


@dataclass(frozen=True)
class Flavour:
    """What one published checkpoint expects.

    Attributes:
        mean, std: of RGB / 255, by channel.
        same_padding: padded as TensorFlow's "SAME", else by kernel // 2 on every side.
    """

    name: str
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    same_padding: bool


TORCHVISION = Flavour(
    "torchvision", (0.485, 0.456, 0.406), (0.229, 0.224, 0.225), same_padding=False
)
TFSLIM = Flavour("tfslim", (0.5, 0.5, 0.5), (0.5, 0.5, 0.5), same_padding=True)


class Conv(nn.Module):
    """Convolution, optional BatchNorm (`norm`), ReLU6 where `activate`.

    `same` pads as TensorFlow does.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: int,
        stride: int,
        groups: int,
        *,
        activate: bool,
        same: bool,
    ) -> None:
        super().__init__()
        # At stride 1 both paddings agree. At stride 2 TensorFlow's depends on the input's size.
        self.tf_stride = stride if same and stride > 1 else 0
        padding = 0 if self.tf_stride else kernel // 2
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, padding, groups=groups)
        self.norm: nn.Module = nn.Identity()
        self.activate = activate

    def forward(self, x: Tensor) -> Tensor:
        """(B, inputs, H, W) -> (B, outputs, ceil(H / stride), ceil(W / stride))."""
        if self.tf_stride:
            x = F.pad(x, _same_padding(x.shape[-2:], self.conv.kernel_size[0], self.tf_stride))
        x = self.norm(self.conv(x))
        return F.relu6(x) if self.activate else x


def _same_padding(size: torch.Size, kernel: int, stride: int) -> tuple[int, int, int, int]:
    """(left, right, top, bottom) as TensorFlow's "SAME".

    The output has ceil(n / stride) pixels, and the windows that they read overhang the input by the
    padding. An odd pixel goes to the right and to the bottom.
    """

    def overhang(pixels: int) -> int:
        outputs = -(-pixels // stride)
        return max((outputs - 1) * stride + kernel - pixels, 0)

    height = overhang(int(size[0]))
    width = overhang(int(size[1]))
    return width // 2, width - width // 2, height // 2, height - height // 2


class InvertedResidual(nn.Sequential):
    """Expand (unless `expansion` is 1), depthwise, project.

    The input is added where the shapes allow it. The projection has no activation: ReLU in few
    channels loses information (the "linear bottleneck" of the paper).
    """

    def __init__(
        self, inputs: int, outputs: int, stride: int, expansion: int, *, same: bool, kernel: int = 3
    ) -> None:
        hidden = inputs * expansion
        layers: list[nn.Module] = []
        if expansion != 1:
            layers.append(Conv(inputs, hidden, 1, 1, 1, activate=True, same=same))
        layers += [
            Conv(hidden, hidden, kernel, stride, hidden, activate=True, same=same),
            Conv(hidden, outputs, 1, 1, 1, activate=False, same=same),
        ]
        super().__init__(*layers)
        self.residual = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        """(B, inputs, H, W) -> (B, outputs, ceil(H / stride), ceil(W / stride))."""
        y = super().forward(x)
        return x + y if self.residual else y


class MobileNetV2(nn.Module):
    """MobileNetV2 1.0 without its classifier.

    Normalised NCHW pictures -> a map of 1280 channels (`features`).
    """

    def __init__(self, flavour: Flavour = TORCHVISION) -> None:
        super().__init__()
        same = flavour.same_padding
        layers: list[nn.Module] = [Conv(3, 32, 3, 2, 1, activate=True, same=same)]
        channels = 32
        for expansion, outputs, repeats, first_stride in BLOCKS:
            for i in range(repeats):
                stride = first_stride if i == 0 else 1
                layers.append(InvertedResidual(channels, outputs, stride, expansion, same=same))
                channels = outputs
        layers.append(Conv(channels, FEATURES, 1, 1, 1, activate=True, same=same))
        self.layers = nn.Sequential(*layers)
        self.flavour = flavour

    def features(self, x: Tensor) -> Tensor:
        """(B, 3, H, W) normalised as `flavour` says -> (B, 1280, ceil(H / 32), ceil(W / 32))."""
        return self.layers(x)

    def forward(self, x: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, 1280): the features, averaged over the picture."""
        return self.features(x).mean((2, 3))

    def convolutions(self) -> list[Conv]:
        """The 52 convolution layers, in the order of the checkpoints."""
        return [m for m in self.modules() if isinstance(m, Conv)]


def load_mobilenet(path: str | Path, flavour: Flavour = TORCHVISION) -> MobileNetV2:
    """Build the network and fill it from a checkpoint.

    The checkpoint holds arrays `NN.weight` and `NN.bias`, NN = 00 ... 51 in the order of
    `convolutions`.

    Raises NoInputError when the file is missing and DataError when it is not such a checkpoint.
    """
    arrays = _read_npz(path)
    net = MobileNetV2(flavour)
    for i, layer in enumerate(net.convolutions()):
        for part in ("weight", "bias"):
            key = f"{i:02d}.{part}"
            target = getattr(layer.conv, part)
            if key not in arrays or arrays[key].shape != tuple(target.shape):
                shape = arrays[key].shape if key in arrays else "missing"
                raise DataError(
                    f"{path}: {key} is {shape}, should be {tuple(target.shape)}",
                    "give a MobileNetV2 1.0 checkpoint",
                )
            target.data.copy_(torch.from_numpy(arrays[key].astype(np.float32)))
    return net


def load_classifier(path: str | Path) -> nn.Linear:
    """The checkpoint's classifier as Linear(1280, 1001).

    Class 0 is "background"; the classes of ImageNet-1k follow in their order.

    Raises NoInputError when the file is missing and DataError when the checkpoint has no
    classifier.
    """
    arrays = _read_npz(path)
    if "classifier.weight" not in arrays or "classifier.bias" not in arrays:
        raise DataError(f"{path}: no classifier in this checkpoint", "give the TensorFlow-slim one")
    weight = arrays["classifier.weight"].astype(np.float32)
    bias = arrays["classifier.bias"].astype(np.float32)

    layer = nn.Linear(weight.shape[1], weight.shape[0])
    layer.weight.data.copy_(torch.from_numpy(weight))
    layer.bias.data.copy_(torch.from_numpy(bias))
    return layer


def _read_npz(path: str | Path) -> dict[str, np.ndarray]:
    try:
        with np.load(path, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except FileNotFoundError as error:
        raise NoInputError(
            f"{path}: no such weights", "the README says where the factory looks for weights"
        ) from error
    except (ValueError, OSError, EOFError) as error:
        raise DataError(f"{path}: not an .npz of arrays ({error})") from error


@torch.no_grad()
def insert_batch_norm(net: nn.Module, batches: Iterable[Tensor], momentum: float = 0.01) -> None:
    """Give every `Conv` of `net` a BatchNorm that changes nothing in eval mode, in place.

    Mean and variance are measured on the batches. Scale and shift are set to undo them, so that
    gamma * (y - mean) / sqrt(var + eps) + beta == y. Training then has BatchNorm to work with, and
    starts from what the checkpoint knows.

    Args:
        net: a network of `Conv` layers, called as net(batch).
        batches: normalised pictures (B, 3, H, W).
        momentum: of the running statistics during the training that follows.
    """
    layers = [m for m in net.modules() if isinstance(m, Conv)]
    # Sums of y and y^2 by channel. In float64: the variance is a small difference of large sums.
    sums = {layer: torch.zeros(2, layer.conv.out_channels, dtype=torch.float64) for layer in layers}
    counts = dict.fromkeys(layers, 0)
    owners: dict[nn.Module, Conv] = {layer.conv: layer for layer in layers}

    def measure(layer: nn.Module, _inputs: tuple[Tensor, ...], y: Tensor) -> None:
        owner = owners[layer]
        sums[owner][0] += y.sum((0, 2, 3), dtype=torch.float64).cpu()
        sums[owner][1] += y.double().square().sum((0, 2, 3)).cpu()
        counts[owner] += y.numel() // y.shape[1]

    hooks = [layer.conv.register_forward_hook(measure) for layer in layers]
    try:
        for batch in batches:
            net(batch)
    finally:
        for hook in hooks:
            hook.remove()

    for layer in layers:
        mean = sums[layer][0] / max(counts[layer], 1)
        variance = (sums[layer][1] / max(counts[layer], 1) - mean.square()).clamp_min(0)

        weight = layer.conv.weight
        norm = nn.BatchNorm2d(layer.conv.out_channels, momentum=momentum).to(weight.device)
        norm.running_mean.copy_(mean)
        norm.running_var.copy_(variance)
        norm.weight.copy_((variance + norm.eps).sqrt())
        norm.bias.copy_(mean)
        norm.train(layer.training)
        layer.norm = norm


@torch.no_grad()
def fold_batch_norm(net: nn.Module) -> nn.Module:
    """A copy of `net` that computes the same in eval mode, without BatchNorm in its `Conv`
    layers."""
    net = copy.deepcopy(net).eval()
    for layer in net.modules():
        if isinstance(layer, Conv) and isinstance(layer.norm, nn.BatchNorm2d):
            norm = layer.norm
            scale = norm.weight / (norm.running_var + norm.eps).sqrt()
            layer.conv.weight.mul_(scale[:, None, None, None])
            layer.conv.bias.copy_((layer.conv.bias - norm.running_mean) * scale + norm.bias)
            layer.norm = nn.Identity()
    return net
