"""Rounding with carried errors: the layer's output moves less than when each weight is rounded by
itself."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("onnx", reason="needs edge-label[train]")

from tools.factory.int8 import rounding
from tools.factory.int8.rounding import carry_errors


@pytest.mark.parametrize("own_matrix", [False, True])
def test_carried_errors_disturb_the_output_less(own_matrix: bool) -> None:
    """Edge filters on bright, smooth inputs: what is left of nine rounded weights is multiplied by
    the brightness."""
    rng = np.random.default_rng(0)
    inputs = rng.uniform(3, 6, (2000, 1)) + rng.normal(0, 0.2, (2000, 9))
    weights = rng.normal(0, 1, (64, 9))
    weights -= weights.mean(1, keepdims=True)
    scale = np.abs(weights).max(1, keepdims=True) / 127
    second = (inputs.T @ inputs / len(inputs))[None]
    if own_matrix:
        second = np.repeat(second, len(weights), axis=0)
    carried = carry_errors(weights, scale, second)
    assert carried.dtype == np.int8
    nearest = np.rint(weights / scale)
    errors = [
        np.square(inputs @ (whole * scale - weights).T).mean() for whole in (carried, nearest)
    ]
    assert errors[0] < errors[1] / 10


def test_a_layer_wider_than_a_block_is_rounded_as_one_by_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Carrying the errors of many weights at once is only faster: the integers stay the same."""
    rng = np.random.default_rng(1)
    inputs = rng.normal(1, 1, (900, 300)) @ rng.normal(0, 1, (300, 300))
    weights = rng.normal(0, 1, (16, 300))
    scale = np.abs(weights).max(1, keepdims=True) / 127
    second = (inputs.T @ inputs / len(inputs))[None]
    together = carry_errors(weights, scale, second)
    monkeypatch.setattr(rounding, "BLOCK", 300)
    np.testing.assert_array_equal(together, carry_errors(weights, scale, second))
