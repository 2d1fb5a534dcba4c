"""The terms of the objective pull and push as their papers say."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch", reason="needs edge-label[train]")

from torch.nn.functional import normalize  # noqa: E402

from tools.factory.training.losses import triplet  # noqa: E402


def test_triplets_pull_the_same_label_and_push_the_others():
    torch.manual_seed(0)
    points = normalize(torch.randn(24, 8), dim=1).requires_grad_()
    groups = torch.arange(24) % 3

    def spread(x: torch.Tensor) -> float:
        distance = torch.cdist(x, x)
        same = groups[:, None] == groups
        return float((distance[~same].mean() - distance[same].sum() / (same.sum() - 24)).detach())

    before = spread(points)
    optimiser = torch.optim.SGD([points], 0.5)
    for _ in range(40):
        optimiser.zero_grad()
        triplet(normalize(points, dim=1), groups, 0.3).backward()
        optimiser.step()
    assert spread(normalize(points, dim=1)) > before + 0.1


def test_triplets_without_a_partner_or_a_label_cost_nothing():
    points = torch.eye(4, requires_grad=True)
    for groups in (
        torch.tensor([0, 1, 2, 3]),
        torch.tensor([-1, -1, -1, -1]),
        torch.tensor([0, 0, 0, 0]),
    ):
        loss = triplet(points, groups, 0.3)
        loss.backward()
        assert loss.item() == 0
    assert torch.isfinite(points.grad).all()
