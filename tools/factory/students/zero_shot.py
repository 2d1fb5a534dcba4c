"""A head from an ImageNet classifier and the text rows of its class names, in closed form: no
picture is needed.

It joins two ways from a classifier to names that the classifier has never seen:

- *Weight prediction.* A weight row c_k says which features make class k, a text row t_k what class
  k is called. Ridge regression c(t) = G^T (t - mean t) + mean c predicts the weights of a class
  from its name (Elhoseiny et al., ICCV 2013). The score of a name is then z . c(t) = (G z) . t
  plus a term without t, so G is a linear head into the text space. This way is good at names that
  are not in ImageNet.
- *Convex combination* (ConSE, Norouzi et al., ICLR 2014, equation 3): the sum over classes of
  p(k | z) v_k. This way is good at names that are in ImageNet. If v_k were the text row itself,
  unseen names would hardly differ in score, because CLIP's text rows share one large mean. So v_k
  is the row after ridge whitening over a bank of names (`whitened`).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from tools.factory.students.efficientnet_lite import lite_classifier
from tools.factory.students.heads import ClassifierHead
from tools.factory.students.mobilenet import load_classifier
from tools.factory.students.weights import read_state
from tools.factory.text.rows import TextRows, load_text_rows, unique_rows

BACKGROUND_CLASSES = 1  # the TensorFlow-slim classifier's class 0 is no ImageNet class
IMAGENET_CLASSES = 1000
# Of the shared text rows; from here on they are in the order of the classes.
FIRST_IMAGENET_ROW = 1203
PREDICTION_RIDGE = 1.0
WHITENING_RIDGE = 0.3
# Mean norm of G z over photographs at this ridge. The names get this length, so that both ways have
# the same weight.
PREDICTION_NORM = 18.5


def load_classifier_head(checkpoint: str, texts: Path) -> ClassifierHead:
    """The head from an ImageNet checkpoint and the shared text rows in the folder `texts`.

    Raises NoInputError and DataError for what cannot be read.
    """
    rows = load_text_rows(texts)
    bank = np.stack(list(unique_rows(rows).values()))
    return classifier_head(imagenet_classifier(checkpoint), imagenet_names(rows), bank)


def imagenet_names(rows: TextRows) -> NDArray[np.float32]:
    """(1000, 512) unit-norm text rows of the ImageNet-1k classes, in their order."""
    return rows.vectors[FIRST_IMAGENET_ROW : FIRST_IMAGENET_ROW + IMAGENET_CLASSES]


def imagenet_classifier(checkpoint: str) -> nn.Linear:
    """Linear(1280, 1000) in the order of ImageNet-1k.

    checkpoint: a TensorFlow-slim MobileNetV2 (.npz) or an EfficientNet-Lite.
    """
    if not checkpoint.endswith(".npz"):
        return lite_classifier(read_state(checkpoint), checkpoint)
    with_background = load_classifier(checkpoint)
    layer = nn.Linear(
        with_background.in_features, with_background.out_features - BACKGROUND_CLASSES
    )
    layer.weight.data.copy_(with_background.weight[BACKGROUND_CLASSES:])
    layer.bias.data.copy_(with_background.bias[BACKGROUND_CLASSES:])
    return layer


def classifier_head(
    classifier: nn.Linear, names: NDArray[np.float32], bank: NDArray[np.float32]
) -> ClassifierHead:
    """Both ways in one head.

    Args:
        classifier: Linear(F, K).
        names: (K, D) unit-norm text rows of its classes.
        bank: (N, D) unit-norm text rows of many names, over which the names are whitened.
    """
    prediction = predicted_weights(classifier, torch.from_numpy(names), PREDICTION_RIDGE)
    directions = PREDICTION_NORM * whitened(bank, names, WHITENING_RIDGE)
    return ClassifierHead(classifier, torch.from_numpy(directions), prediction)


@torch.no_grad()
def predicted_weights(classifier: nn.Linear, names: Tensor, ridge: float) -> nn.Linear:
    """G as Linear(F, D): (T^T T + ridge mean(diag T^T T) I)^-1 T^T C, T and C centred.

    `ridge` is in units of the names' variance.
    """
    centred = (names - names.mean(0)).double()
    weight = classifier.weight.double()
    bias = classifier.bias.double()
    gram = centred.T @ centred
    gram += ridge * gram.trace() / len(gram) * torch.eye(len(gram), dtype=torch.float64)
    solve = torch.linalg.solve(gram, centred.T)

    layer = nn.Linear(weight.shape[1], names.shape[1])
    layer.weight.copy_(solve @ (weight - weight.mean(0)))
    layer.bias.copy_(solve @ (bias - bias.mean()))
    return layer


def whitened(
    bank: NDArray[np.float32], names: NDArray[np.float32], ridge: float
) -> NDArray[np.float32]:
    """(C + ridge mean(diag C) I)^-1 (t - mean t) of each row of `names` (K, D), made unit norm.

    C and the mean are those of `bank` (N, D). This is the direction in which a name differs most
    from all names of the bank.
    """
    mean = bank.mean(0)
    covariance = np.cov(bank - mean, rowvar=False)
    covariance += ridge * np.trace(covariance) / len(covariance) * np.eye(len(covariance))
    rows = np.linalg.solve(covariance, (names - mean).T).T
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
