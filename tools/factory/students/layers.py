"""The layers that students are built of, and the backbone: layers that can be frozen, a mean over
the picture, a tail."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

NORM_MOMENTUM = 0.03


class ConvNorm(nn.Module):
    """Convolution without bias, BatchNorm, optional activation.

    `names` are the names of the first two in timm's checkpoints.
    """

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
        self.conv = nn.Conv2d(
            inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False
        )
        # Slower than torch's 0.1: the statistics of small batches are noisy.
        self.bn = nn.BatchNorm2d(outputs, momentum=NORM_MOMENTUM)
        self.act = activation() if activation else nn.Identity()
        self.names = names

    def forward(self, x: Tensor) -> Tensor:
        """(B, inputs, H, W) -> (B, outputs, ceil(H / stride), ceil(W / stride))."""
        return self.act(self.bn(self.conv(x)))


class SqueezeExcite(nn.Module):
    """Channels weighted by a sigmoid of their global mean (Hu et al. 2018)."""

    def __init__(self, channels: int, squeezed: int, name: str) -> None:
        super().__init__()
        self.reduce = nn.Conv2d(channels, squeezed, 1)
        self.expand = nn.Conv2d(squeezed, channels, 1)
        self.name = name

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, H, W)."""
        mean = F.adaptive_avg_pool2d(x, 1)
        squeezed = F.silu(self.reduce(mean))
        return x * torch.sigmoid(self.expand(squeezed))


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
        self.layers = nn.Sequential(*layers)
        self.width = width
        self.tail = tail or nn.Identity()
        self.frozen = 0

    def forward(self, x: Tensor) -> Tensor:
        """(B, 3, H, W) as (x - 114) / 57 -> (B, width).

        The first `frozen` layers get no gradient.
        """
        return self.rest(self.stem(x), self.frozen)

    def stem(self, x: Tensor) -> Tensor:
        """The frozen layers alone, without a gradient: (B, 3, H, W) -> (B, C, h, w)."""
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.frozen):
            for layer in self.layers[: self.frozen]:
                x = layer(x)
        return x

    def rest(self, x: Tensor, start: int) -> Tensor:
        """Layers from `start` on, the mean over the picture, the tail.

        (B, C, h, w) -> (B, width).
        """
        for layer in self.layers[start:]:
            x = layer(x)
        return self.tail(F.adaptive_avg_pool2d(x, 1)).flatten(1)

    @property
    def all_frozen(self) -> bool:
        """Whether only the head is trained."""
        return self.frozen == len(self.layers)

    def first(self) -> tuple[nn.Conv2d, nn.BatchNorm2d | None]:
        """The first convolution and its BatchNorm, if it has one."""
        first = next(m for m in self.layers.modules() if isinstance(m, nn.Conv2d))
        norm = next((m for m in self.layers[0].modules() if isinstance(m, nn.BatchNorm2d)), None)
        return first, norm
