"""Several trainings from one start, and the mean of their weights."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any, TypeVar

import torch
from torch import nn

from edge_runtime.errors import StuckError
from tools.factory.training.materials import Materials
from tools.factory.training.trainer import Trainer

Model = TypeVar("Model", bound=nn.Module)


class UnjudgedTrainer(Trainer):
    """A trainer that scores nothing itself: EdgeVL judges on pairs, not on held-out pictures."""

    def validate(self) -> dict[str, Any]:
        """Nothing."""
        return {}


def mean_of(trained: list[Model]) -> Model:
    """A model whose weights are the mean of those of several.

    "Model soups" (Wortsman et al., ICML 2022): with so few pairs, one training alone is chance.
    """
    states = [model.state_dict() for model in trained]
    weights = {}
    for name, tensor in states[0].items():
        if tensor.is_floating_point():
            tensor = torch.stack([state[name] for state in states]).mean(0)
        weights[name] = tensor

    mean = copy.deepcopy(trained[0])
    mean.load_state_dict(weights)
    return mean


def train_until(trainer: Trainer, stop_at_step: int = 1 << 62) -> None:
    """Run to the end of the plan or to a step.

    Raises StuckError when a signal asked to stop before: a stopped training is no finished one.
    """
    trainer.run(stop_at_step=stop_at_step)
    if trainer.step < min(trainer.plan.steps, stop_at_step):
        raise StuckError("stopped before the end", "run the same command again to continue")


def only(materials: Materials, modalities: tuple[str, ...]) -> Materials:
    """The same materials with pictures of other modalities left out of training."""
    cache = copy.copy(materials.cache)
    cache.samples = [
        sample if sample.modality in modalities else replace(sample, held_out=True)
        for sample in cache.samples
    ]
    return replace(materials, cache=cache)
