"""The teacher without a CLIP picture tower.

ImageNet classifiers say what is in the picture, genuine CLIP text embeddings say where those names
lie (students/zero_shot.py)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from edge_runtime.errors import UsageError
from tools.factory.students.efficientnet_lite import (
    LITE,
    VARIANTS,
    fill_lite,
    lite_layers,
    lite_weights,
)
from tools.factory.students.heads import ClassifierHead
from tools.factory.students.mobilenet import TFSLIM, Flavour, load_mobilenet
from tools.factory.students.weights import read_state
from tools.factory.students.zero_shot import imagenet_names, load_classifier_head
from tools.factory.teachers.teacher import (
    CLIP_B32,
    Pictures,
    TextEncoder,
    rows_from_bank,
    squash,
    unit,
)
from tools.factory.text.rows import bank_of, load_text_rows


@dataclass(frozen=True)
class Member:
    """An ImageNet classifier in the offline teacher.

    features: (B, 3, H, W) normalised by `flavour` -> (B, 1280, h, w) or (B, 1280); head: these,
    averaged -> (B, 512).
    """

    features: nn.Module
    head: ClassifierHead
    flavour: Flavour

    def __call__(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """(B, 3, H, W) RGB values 0 ... 255 -> p(class), (B, 1000), and unit embeddings, (B,
        512)."""
        mean, std = (torch.tensor(v)[:, None, None] for v in (self.flavour.mean, self.flavour.std))
        features = self.features((pixels / 255 - mean) / std)
        if features.ndim == 4:
            features = features.mean((2, 3))
        return self.head.classify(features).softmax(1), F.normalize(self.head(features), dim=1)


MEMBERS = ("mobilenet_v2", *VARIANTS)


def load_member(name: str, weights: Path) -> Member:
    """A classifier by its name; the MobileNetV2 and the text rows stand in the folder `weights`.

    Raises UsageError for an unknown name, NoInputError when its weights are missing.
    """
    if name == "mobilenet_v2":
        source = str(weights / "mobilenetv2_1.0_imagenet_tfslim.npz")
        net = load_mobilenet(source, TFSLIM).layers
        flavour = TFSLIM
    elif name in VARIANTS:
        source = lite_weights(name)
        flavour = LITE
        layers = lite_layers(name)
        fill_lite(layers, read_state(source), source)
        net = nn.Sequential(*layers)
    else:
        raise UsageError(
            f"teacher.members: no classifier '{name}'", f"there are: {', '.join(MEMBERS)}"
        )
    head = load_classifier_head(source, weights)
    return Member(net.eval().to(memory_format=torch.channels_last), head.eval(), flavour)


class OfflineTeacher:
    """ImageNet classifiers and genuine CLIP text rows in place of a CLIP image tower; see
    zero_shot.py."""

    text_space = CLIP_B32

    def __init__(
        self,
        weights: Path,
        members: Sequence[str] = ("mobilenet_v2",),
        *,
        text: TextEncoder | None = None,
        size: int = 192,
        batch: int = 64,
    ) -> None:
        rows = load_text_rows(weights)
        self.bank = bank_of(rows)
        self.imagenet = imagenet_names(rows)
        self._members = [load_member(name, weights) for name in members]
        self._text = text
        self._size = size
        self._batch = batch

    @torch.no_grad()
    def look(self, pictures: Pictures) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """(p(class | picture) over the names `imagenet`, (N, 1000), unit embeddings (N, 512)).

        Both are means over the members.
        """
        posteriors = []
        embeddings = []
        for start in range(0, len(pictures), self._batch):
            part = np.stack([squash(p, self._size) for p in pictures[start : start + self._batch]])
            pixels = torch.from_numpy(part).permute(0, 3, 1, 2).float()
            answers = [member(pixels) for member in self._members]
            by_member = torch.stack([posterior for posterior, _ in answers])
            posteriors.append(by_member.mean(0).numpy())
            by_member = torch.stack([embedding for _, embedding in answers])
            embeddings.append(by_member.mean(0).numpy())
        return np.concatenate(posteriors), unit(np.concatenate(embeddings))

    def image_embeddings(self, pictures: Pictures) -> NDArray[np.float32]:
        """As `Teacher.image_embeddings`."""
        return self.look(pictures)[1]

    def text_embeddings(self, phrases: Sequence[str]) -> NDArray[np.float32]:
        """As `Teacher.text_embeddings`: genuine rows where the bank has them, else the `text`
        encoder."""
        return rows_from_bank(self.bank, phrases, self._text)
