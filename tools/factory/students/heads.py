"""Heads between a backbone's features and the text space.

One is an MLP, as in Clip4Retrofit; another holds a classifier. Either can be corrected by a linear
map behind it.
"""

from __future__ import annotations

import copy

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tools.factory.recipe import HeadRecipe

_ACTIVATIONS = {"relu": nn.ReLU, "relu6": nn.ReLU6, "gelu": nn.GELU, "silu": nn.SiLU}


class ProjectionHead(nn.Sequential):
    """(B, inputs) features -> (B, outputs), not yet normalised; `recipe.depth` linear layers."""

    def __init__(self, inputs: int, outputs: int, recipe: HeadRecipe) -> None:
        layers: list[nn.Module] = []
        for _ in range(recipe.depth - 1):
            layers += [nn.Linear(inputs, recipe.width), _ACTIVATIONS[recipe.activation]()]
            # From the second layer on, a layer reads what the one before gave.
            inputs = recipe.width
            if recipe.dropout:
                layers.append(nn.Dropout(recipe.dropout))
        layers.append(nn.Linear(inputs, outputs))
        super().__init__(*layers)

    def forward(self, x: Tensor) -> Tensor:
        """(B, inputs) -> (B, outputs)."""
        return super().forward(x)


class ClassifierHead(nn.Module):
    """A classifier's posterior mapped into the text space, and a linear head beside it.

    direct(z) + names(softmax(classify(z))): (B, F) features -> (B, D), not yet normalised.
    zero_shot.py computes one that knows what the classifier knows, before any training.
    """

    def __init__(self, classifier: nn.Linear, names: Tensor, direct: nn.Linear) -> None:
        """`names` is (K, D): where each of the classifier's K classes lies."""
        super().__init__()
        self.classify = classifier
        self.direct: nn.Module = direct
        # The bias is zero at first. Without one, export would fuse the sum below into a matrix
        # product whose "bias" is not constant, and that cannot be quantised.
        self.names = nn.Linear(names.shape[0], names.shape[1])
        self.names.weight.data.copy_(names.T)
        nn.init.zeros_(self.names.bias)

    def forward(self, x: Tensor) -> Tensor:
        """(B, F) -> (B, D)."""
        return self.direct(x) + self.names(self.classify(x).softmax(1))

    def factor(self, rank: int, moments: Tensor | None = None) -> None:
        """Replace `direct`, a (D, F) matrix W, by the product of a (D, rank) and a (rank, F)
        matrix, which are smaller.

        The product is U U^T W, where U is the first `rank` left singular vectors of W S and
        S S^T = moments. Of all products of this rank it changes W z least on average.

        Args:
            rank: columns of the first matrix.
            moments: E[z z^T] of the features, (F, F); without it, the identity.

        Raises TypeError when the head is factored already.
        """
        whole = self.direct
        if not isinstance(whole, nn.Linear):
            raise TypeError("this head is factored already")
        weight = whole.weight.detach().double()
        if moments is None:
            moments = torch.eye(weight.shape[1])

        # S from the eigenvalues; rounding may leave the smallest of them below zero.
        values, vectors = torch.linalg.eigh(moments.double())
        spread = vectors * values.clamp_min(0).sqrt()
        left = torch.linalg.svd(weight @ spread, full_matrices=False).U[:, :rank]

        first = nn.Linear(weight.shape[1], rank, bias=False)
        second = nn.Linear(rank, weight.shape[0])
        first.weight.data.copy_(left.T @ weight)
        second.weight.data.copy_(left)
        second.bias.data.copy_(whole.bias.detach())
        self.direct = nn.Sequential(first, second)


class CorrectedHead(nn.Module):
    """A head that is not trained any more, and one linear map of its answers that is: y + C y.

    A linear correction of all text rows would do the same: (y + C y) . t = y . (t + C^T t). Learnt
    on this side it costs nothing at run time, because `folded` puts it into the head's last layers,
    and the text rows stay those of the text space.
    """

    def __init__(self, head: nn.Module, outputs: int) -> None:
        """`outputs` is the width of the head's answers; C begins as 0."""
        super().__init__()
        self.head = head.requires_grad_(False)
        self.change = nn.Linear(outputs, outputs, bias=False)
        nn.init.zeros_(self.change.weight)

    def forward(self, x: Tensor) -> Tensor:
        """(B, F) -> (B, D), not yet normalised."""
        y = F.normalize(self.head(x), dim=1)
        return y + self.change(y)

    @torch.no_grad()
    def folded(self) -> nn.Module:
        """A copy of the head whose last layers hold the correction.

        Its answers have another length than those of this module, and the same direction.
        """
        head = copy.deepcopy(self.head)
        matrix = self.change.weight + torch.eye(len(self.change.weight))
        for layer in _last_layers(head):
            layer.weight.copy_(matrix @ layer.weight)
            layer.bias.copy_(matrix @ layer.bias)
        return head


def _last_layers(head: nn.Module) -> list[nn.Linear]:
    """The linear layers whose outputs add up to a head's answer."""
    ends = [head.names, head.direct] if isinstance(head, ClassifierHead) else [head]
    layers = [end[-1] if isinstance(end, nn.Sequential) else end for end in ends]
    return [layer for layer in layers if isinstance(layer, nn.Linear)]
