"""The linear layer of a head as the product of two thin ones."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
import yaml
from numpy.typing import NDArray
from torch import Tensor

from edge_runtime.errors import ConfigError, UsageError
from tools.factory.data.augment import VIEW, whole_picture
from tools.factory.data.pictures import cache_pictures
from tools.factory.data.samples import scan
from tools.factory.students.heads import ClassifierHead
from tools.factory.students.student import PIXEL_OFFSET, PIXEL_SCALE
from tools.factory.training.run_folder import derive_run, load_run
from tools.factory.training.scoring import embed_pictures

# Share of the mean second moment. Without it, directions that no picture showed would be lost.
RIDGE = 1e-4


def shrink(run: Path, rank: int, data: Path, cache: Path, output: Path, pictures: int) -> Tensor:
    """Write the run with a head of that rank.

    Returns the cosines (N,) between the embeddings of held-out pictures before and after. Raises
    ConfigError when the head has nothing to factor, UsageError when `rank` would make it larger.
    """
    recipe, student, _ = load_run(run)
    head = student.head
    if not isinstance(head, ClassifierHead) or recipe.student.head.rank:
        raise ConfigError(f"{run}: needs student.head.kind classifier, not yet shrunk")
    inputs = head.classify.in_features
    outputs = head.names.out_features
    # Two thin matrices hold rank * (inputs + outputs) numbers, the whole one inputs * outputs.
    limit = inputs * outputs // (inputs + outputs)
    if not 0 < rank < limit:
        raise UsageError(f"--rank {rank}: must be between 1 and {limit - 1}")

    kept = cache_pictures(scan(recipe.data, data), recipe.input, cache)
    held_out = np.array([sample.held_out for sample in kept.samples])

    def backbone(pixels: Tensor) -> Tensor:
        return student.backbone((pixels - PIXEL_OFFSET) / PIXEL_SCALE)

    def features(rows: NDArray[np.int64]) -> Tensor:
        chosen = rows[np.linspace(0, len(rows) - 1, min(pictures, len(rows))).astype(int)]
        views = np.full(len(chosen), whole_picture(), VIEW)
        cpu = torch.device("cpu")
        size = recipe.input.size
        return torch.from_numpy(embed_pictures(backbone, kept, chosen, views, size, cpu))

    known = features(np.flatnonzero(~held_out))
    moments = known.T @ known / len(known)
    moments += RIDGE * moments.diagonal().mean() * torch.eye(inputs)
    judged = features(np.flatnonzero(held_out))
    with torch.no_grad():
        before = head(judged)
        head.factor(rank, moments)
        after = head(judged)
    cosines = torch.nn.functional.cosine_similarity(before, after)

    smaller = _recipe_with_rank(run, rank)
    facts = {"rank": rank, "cosine": float(cosines.mean())}
    derive_run(run, output, student.state_dict(), "shrink", facts, smaller)
    return cosines


def _recipe_with_rank(run: Path, rank: int) -> bytes:
    """recipe.yaml of the run, with the rank of its head."""
    recipe = yaml.safe_load((run / "recipe.yaml").read_text(encoding="utf-8"))
    recipe["student"]["head"]["rank"] = rank
    return yaml.safe_dump(recipe, sort_keys=False, width=120).encode()
