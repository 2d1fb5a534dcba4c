"""The MLP projection head between a backbone's features and the text space (Clip4Retrofit's projection head)."""

from __future__ import annotations

from torch import Tensor, nn

from tools.factory.recipe import HeadRecipe

_ACTIVATIONS = {"relu": nn.ReLU, "relu6": nn.ReLU6, "gelu": nn.GELU, "silu": nn.SiLU}


class ProjectionHead(nn.Sequential):
    """(B, inputs) features -> (B, outputs), not yet normalised; `recipe.depth` linear layers."""

    def __init__(self, inputs: int, outputs: int, recipe: HeadRecipe) -> None:
        layers: list[nn.Module] = []
        for _ in range(recipe.depth - 1):
            layers += [nn.Linear(inputs, recipe.width), _ACTIVATIONS[recipe.activation]()]
            inputs = recipe.width
            if recipe.dropout:
                layers.append(nn.Dropout(recipe.dropout))
        layers.append(nn.Linear(inputs, outputs))
        super().__init__(*layers)

    def forward(self, x: Tensor) -> Tensor:
        """(B, inputs) -> (B, outputs)."""
        return super().forward(x)
