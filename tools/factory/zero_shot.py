"""A projection head from a classifier, in closed form: no picture is needed.

A classifier's weight row c_k says which features make class k; a text row t_k says what class k is called. Ridge
regression from one to the other, c(t) = G^T (t - mean t) + mean c, predicts the weights of a class from its name
alone, and since the score of a name is then

    z . c(t) = (G z) . t + constant,

G itself is a linear head into the text space. (Zero-shot learning by weight prediction, Frome et al., "DeViSE",
NeurIPS 2013, run backwards: names are mapped to classifiers in place of pictures to names.)
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


@torch.no_grad()
def head_from_classifier(classifier: nn.Linear, texts: Tensor, features: Tensor, ridge: float = 0.3) -> nn.Linear:
    """Linear head (features -> text space) that ranks names as the classifier would.

    Args:
        classifier: Linear(F, K).
        texts: (K, D) unit-norm text rows, one a class.
        features: (N, F) features of some pictures; their mean is taken out, their scale brought to norm 1.
        ridge: in units of the mean variance of the text rows.

    Returns Linear(F, D) whose outputs have mean norm 1 on `features`; they are to be normalised.
    """
    weight, bias = classifier.weight.double(), classifier.bias.double()
    centred = (texts - texts.mean(0)).double()
    gram = centred.T @ centred
    penalty = ridge * gram.trace() / len(gram) * torch.eye(len(gram), dtype=torch.float64)
    solve = torch.linalg.solve(gram + penalty, centred.T)
    head = solve @ (weight - weight.mean(0))
    # Features share a large mean that the mean classifier row would have answered for.
    offset = solve @ (bias - bias.mean()) - head @ features.double().mean(0)
    scale = (features.double() @ head.T + offset).norm(dim=1).mean()
    layer = nn.Linear(weight.shape[1], texts.shape[1])
    layer.weight.copy_(head / scale)
    layer.bias.copy_(offset / scale)
    return layer
