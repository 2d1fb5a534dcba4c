"""Image towers to compare with: shapes from their papers, random weights, and the branches that
training uses already merged, as in deployment."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class _SqueezeExcite(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.reduce = nn.Conv2d(channels, channels // 16, 1)
        self.expand = nn.Conv2d(channels // 16, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, H, W)."""
        return x * torch.sigmoid(self.expand(F.relu(self.reduce(x.mean((2, 3), keepdim=True)))))


class _ConvFfn(nn.Module):
    """Depthwise 7x7, then a two-layer perceptron of 1x1 convolutions, added to its input."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.spatial = nn.Conv2d(channels, channels, 7, padding=3, groups=channels)
        self.up = nn.Conv2d(channels, 3 * channels, 1)
        self.down = nn.Conv2d(3 * channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, H, W)."""
        return x + self.down(F.gelu(self.up(self.spatial(x))))


class _Attention(nn.Module):
    """Multi-head self-attention over the positions, heads of 32, added to its input."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.heads = channels // 32
        self.qkv = nn.Linear(channels, 3 * channels, bias=False)
        self.out = nn.Linear(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, H, W)."""
        b, c, h, w = x.shape
        tokens = x.flatten(2).transpose(1, 2)
        # (3, B, heads, positions, 32): query, key and value.
        qkv = self.qkv(tokens).reshape(b, h * w, 3, self.heads, 32).permute(2, 0, 3, 1, 4)
        weights = ((qkv[0] * 32**-0.5) @ qkv[1].transpose(-2, -1)).softmax(-1)
        mixed = (weights @ qkv[2]).transpose(1, 2).reshape(b, h * w, c)
        return x + self.out(mixed).transpose(1, 2).reshape(b, c, h, w)


def _depthwise(channels: int, kernel: int, stride: int = 1, expand: int = 1) -> nn.Conv2d:
    return nn.Conv2d(channels, expand * channels, kernel, stride, kernel // 2, groups=channels)


def mobileclip_s0() -> nn.Module:
    """MobileCLIP-S0's image tower (Vasu et al. 2024; FastViT, Vasu et al. 2023), 256 px, 11.4 M
    parameters."""
    layers: list[nn.Module] = [
        nn.Conv2d(3, 64, 3, 2, 1),
        nn.GELU(),
        _depthwise(64, 3, 2),
        nn.GELU(),
    ]
    layers += [nn.Conv2d(64, 64, 1), nn.GELU()]
    for stage, (channels, depth) in enumerate([(64, 2), (128, 6), (256, 10), (512, 2)]):
        if stage:
            layers.append(_depthwise(channels // 2, 7, 2, expand=2))
            layers += [_SqueezeExcite(channels)] if stage >= 2 else []
            layers += [nn.GELU(), nn.Conv2d(channels, channels, 1), nn.GELU()]
        if stage == 3:
            layers.append(_depthwise(channels, 7))  # the positional encoding, its shortcut merged
        for _ in range(depth):
            mixer = _Attention(channels) if stage == 3 else _depthwise(channels, 3)
            layers += [mixer, _ConvFfn(channels)]
    layers += [_depthwise(512, 3, expand=2), _SqueezeExcite(1024), nn.GELU()]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(1024, 512))


class _ClipVision(nn.Module):
    def __init__(self, width: int, layers: int, patch: int) -> None:
        super().__init__()
        from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

        config = CLIPVisionConfig(
            hidden_size=width,
            intermediate_size=4 * width,
            num_hidden_layers=layers,
            num_attention_heads=width // 64,
            patch_size=patch,
            image_size=224,
            projection_dim=512,
            attn_implementation="eager",
        )
        self.model = CLIPVisionModelWithProjection(config)

    def forward(self, pixels: Tensor) -> Tensor:
        """(B, 3, 224, 224) -> (B, 512)."""
        return self.model(pixels).image_embeds


def clip_vit_b32() -> nn.Module:
    """CLIP ViT-B/32's image tower (Radford et al. 2021), 224 px, 88 M parameters."""
    return _ClipVision(768, 12, 32)


def tinyclip_8m() -> nn.Module:
    """TinyCLIP-ViT-8M/16's image tower (Wu et al. 2023), 224 px, 8 M parameters."""
    return _ClipVision(256, 10, 16)
