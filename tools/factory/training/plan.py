"""The stages of a recipe as steps: input size, frozen layers and learning rate of every step."""

from __future__ import annotations

import numpy as np

from tools.factory.recipe import Recipe, StageRecipe


class Plan:
    """What is done at every step, without any state: a resumed run asks it the same way."""

    def __init__(self, recipe: Recipe, steps_per_epoch: int) -> None:
        self.recipe = recipe
        self.stage_of: list[StageRecipe] = []
        for stage in recipe.train.stages:
            self.stage_of += [stage] * max(1, round(stage.epochs * steps_per_epoch))
        self.steps = len(self.stage_of)
        default = recipe.stem_size if recipe.targets.stem else recipe.input.size
        self.sizes = [stage.size or default for stage in self.stage_of]

    def frozen(self, step: int) -> int:
        """How many layers are frozen at a step."""
        stage = self.stage_of[step]
        return self.recipe.student.frozen if stage.frozen < 0 else stage.frozen

    def from_stem(self, step: int) -> bool:
        """Whether a step starts at the stored activations of the frozen layers."""
        stored = self.recipe.targets.stem and self.frozen(step) >= self.recipe.student.frozen
        return stored and self.sizes[step] == self.recipe.stem_size

    def rate(self, step: int, peak: float) -> float:
        """Linear warm-up, then cosine decay to final_lr."""
        train = self.recipe.train
        # A short run still spends three quarters of its steps at useful rates.
        warm = min(train.warmup, self.steps // 4)
        if step < warm:
            return peak * (step + 1) / warm

        progress = (step - warm) / max(1, self.steps - warm)
        cosine = float(np.cos(np.pi * progress))
        return train.final_lr + (peak - train.final_lr) * 0.5 * (1 + cosine)
